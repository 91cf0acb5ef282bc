"""Reference predictions, computed densely: MONAI's sliding window over the whole prepared scan, every class interpolated."""

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch.nn.functional import interpolate

from voxelry.inference.cascade import one_hot_labels
from voxelry.preparation.preparation import prepare

MODES = {2: "bilinear", 3: "trilinear"}


def dense_logits(forward, plan, volume, found=None, overlap=0.5):
    """``(K, *scan)`` logits of a model on the scan's own grid.

    Args:
        forward: ``(B, C, *patch)`` -> ``(B, K, *patch)``.
        plan: of the model.
        volume: the scan, with content up to its faces.
        found: class indices of a first stage on the scan's grid.
    """
    made = prepare(volume, plan)
    image = torch.from_numpy(made.image(volume))[None]
    if found is not None:
        classes = torch.from_numpy(made.classes(found).astype(np.float32))[None, None]
        image = one_hot_labels(torch.cat([image, classes], 1), int(found.max()) if found.max() > 3 else 3)
    with torch.inference_mode():
        logits = sliding_window_inference(image, plan.patch_size, 1, forward, overlap=overlap, mode="gaussian", sigma_scale=0.125)
        logits = interpolate(logits, size=made.extent, mode=MODES[plan.dimensions], align_corners=False)[0]
    return made.reorder.inverse.apply(logits.numpy())


def shares(logits):
    return torch.from_numpy(np.ascontiguousarray(logits)).softmax(0).numpy()


def disagreements(labels, values, margin=1e-4):
    """Voxels whose class is not that of the largest value though it is no near tie; and the share of near ties."""
    ordered = np.sort(values, axis=0)
    tie = ordered[-1] - ordered[-2] < margin
    return int(((labels != values.argmax(0)) & ~tie).sum()), float(tie.mean())
