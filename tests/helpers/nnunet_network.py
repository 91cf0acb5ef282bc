"""nnU-Net's networks and preparation written a second time, from their description, as the oracle of imported models."""

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


def _conv(x: Tensor, state: State, name: str, stride: Any = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    padding = [(size - 1) // 2 for size in weight.shape[2:]]
    function = functional.conv3d if weight.ndim == 5 else functional.conv2d
    return function(x, weight, state.get(f"{name}.bias"), stride=stride, padding=padding)


def _norm(x: Tensor, state: State, name: str) -> Tensor:
    return functional.instance_norm(x, weight=state[f"{name}.weight"], bias=state[f"{name}.bias"], eps=1e-5)


def _block(x: Tensor, state: State, name: str, stride: Any = 1) -> Tensor:
    return functional.leaky_relu(_norm(_conv(x, state, f"{name}.conv", stride), state, f"{name}.norm"), 0.01)


def _residual(x: Tensor, state: State, name: str, stride: Any) -> Tensor:
    inner = _block(x, state, f"{name}.conv1", stride)
    inner = _norm(_conv(inner, state, f"{name}.conv2.conv"), state, f"{name}.conv2.norm")
    skip, place = x, 0
    if any(step != 1 for step in stride):
        pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
        skip, place = pool(x, tuple(stride), tuple(stride)), 1
    if f"{name}.skip.{place}.conv.weight" in state:
        skip = _norm(_conv(skip, state, f"{name}.skip.{place}.conv"), state, f"{name}.skip.{place}.norm")
    return functional.leaky_relu(inner + skip, 0.01)


def nnunet_logits(x: Tensor, state: State, arguments: dict[str, Any]) -> Tensor:
    """The finest logits of a PlainConvUNet or ResidualEncoderUNet, by the arguments in plans.json."""
    skips, stages, strides = [], arguments["n_stages"], arguments["strides"]
    blocks = arguments.get("n_blocks_per_stage")
    if blocks:
        x = _block(x, state, "encoder.stem.convs.0")
    for stage in range(stages):
        if blocks:
            for number in range(blocks[stage]):
                stride = strides[stage] if number == 0 else [1] * len(strides[stage])
                x = _residual(x, state, f"encoder.stages.{stage}.blocks.{number}", stride)
        else:
            x = _block(x, state, f"encoder.stages.{stage}.0.convs.0", strides[stage])
            x = _block(x, state, f"encoder.stages.{stage}.0.convs.1")
        skips.append(x)
    up = functional.conv_transpose3d if x.ndim == 5 else functional.conv_transpose2d
    for step in range(stages - 1):
        weight, bias = state[f"decoder.transpconvs.{step}.weight"], state[f"decoder.transpconvs.{step}.bias"]
        x = torch.cat([up(x, weight, bias, stride=tuple(weight.shape[2:])), skips[-2 - step]], 1)
        for number in range(arguments["n_conv_per_stage_decoder"][step]):
            x = _block(x, state, f"decoder.stages.{step}.convs.{number}")
    return _conv(x, state, f"decoder.seg_layers.{stages - 2}")


def _zoomed(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """skimage.transform.resize of order 3, mode edge, without blur."""
    factors = np.divide(shape, array.shape)
    result = ndimage.zoom(array.astype(float), factors, order=3, mode="nearest", grid_mode=True)
    return np.clip(result, array.min(), array.max())


def _apart(now: np.ndarray, then: np.ndarray) -> int | None:
    for spacing in (now, then):
        if spacing.max() / spacing.min() > 3:
            axes = np.flatnonzero(spacing == spacing.max())
            return int(axes[0]) if len(axes) == 1 else None
    return None


def nnunet_prepared(image: np.ndarray, spacing: Any, target: Any, scheme: str, numbers: dict[str, float]) -> np.ndarray:
    """One channel, on its own axes, as nnU-Net prepares it: cropped, normalised, resampled."""
    inside = ndimage.binary_fill_holes(image != 0)
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(inside))
    image, inside = image[box].astype(np.float32), inside[box]
    if scheme == "global":
        image = (np.clip(image, numbers["low"], numbers["high"]) - numbers["mean"]) / numbers["std"]
    else:
        chosen = image[inside] if scheme == "mask" else image
        image = np.where(inside if scheme == "mask" else True, (image - chosen.mean()) / chosen.std(), image)
    now, then = np.array(spacing, float), np.array(target, float)
    shape = tuple(round(float(a / b * n)) for a, b, n in zip(now, then, image.shape, strict=True))
    axis = _apart(now, then)
    if shape == image.shape:
        return image
    if axis is None:
        return _zoomed(image, shape)
    moved = np.moveaxis(image, axis, 0)
    flat = np.stack([_zoomed(plane, tuple(n for other, n in enumerate(shape) if other != axis)) for plane in moved])
    nearest = np.floor((np.arange(shape[axis]) + 0.5) * len(flat) / shape[axis]).astype(int)
    return np.moveaxis(flat[nearest], 0, axis)
