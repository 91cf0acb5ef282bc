"""Outputs of Hugging Face's own post-processing, stored in `transformers_outputs.json`; made by `python transformers_outputs.py`.

The library is no dependency of the tests: wherever it is installed MONAI imports it, which doubles the time of every start.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

STORED = Path(__file__).with_suffix(".json")
SHAPE = (6, 7)
QUERIES, CLASSES = 7, 3

INSTANCE = [
    {},
    {"threshold": 0.2},
    {"threshold": 0.3, "target_sizes": [[12, 13], [3, 4]]},
    {"threshold": 0.2, "return_binary_maps": True},
    {"threshold": 0.25, "return_coco_annotation": True},
    {"threshold": 0.999},
]
PANOPTIC = [
    {"label_ids_to_fuse": []},
    {"label_ids_to_fuse": [0], "threshold": 0.3, "overlap_mask_area_threshold": 0.1},
    {"label_ids_to_fuse": [0, 2], "threshold": 0.2, "mask_threshold": 0.3, "overlap_mask_area_threshold": 0.2},
    {"label_ids_to_fuse": [1], "threshold": 0.2, "overlap_mask_area_threshold": 0.0, "target_sizes": [[12, 13], [3, 4]]},
    {"label_ids_to_fuse": [0, 1, 2], "threshold": 0.1, "mask_threshold": 0.7, "overlap_mask_area_threshold": 0.5},
    {"label_ids_to_fuse": [1], "threshold": 0.9999},
]
SEMANTIC = [{}, {"target_sizes": [[12, 13], [3, 4]]}]
SEEDS = range(9)


def query_outputs(seed):
    """Logits of a batch of two."""
    rng = np.random.RandomState(seed)
    classes = torch.from_numpy(rng.normal(0, 2.5, (2, QUERIES, CLASSES + 1))).float()
    coarse = torch.from_numpy(rng.normal(0, 6, (2, QUERIES, 4, 4))).float()
    masks = torch.nn.functional.interpolate(coarse, size=SHAPE, mode="bilinear")
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)


def dense_logits(seed):
    """``(2, CLASSES, *SHAPE)``."""
    return torch.from_numpy(np.random.RandomState(seed).normal(size=(2, CLASSES, *SHAPE))).float()


def plain(value):
    """Tensors as lists."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return (
        [plain(inner) for inner in value] if isinstance(value, list) else int(value) if isinstance(value, np.integer) else value
    )


def main():
    import transformers
    from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil
    from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

    processor, dense = MaskFormerImageProcessorPil(), SegformerImageProcessorPil()
    rows = {"transformers": transformers.__version__, "semantic": [], "instance": [], "panoptic": [], "dense": []}
    for seed in SEEDS:
        outputs = query_outputs(seed)
        for options in SEMANTIC:
            rows["semantic"].append(plain(processor.post_process_semantic_segmentation(outputs, **options)))
            logits = SimpleNamespace(logits=dense_logits(seed))
            rows["dense"].append(plain(dense.post_process_semantic_segmentation(logits, **options)))
        for options in INSTANCE:
            rows["instance"].append(plain(processor.post_process_instance_segmentation(outputs, **options)))
        for options in PANOPTIC:
            fused = {**options, "label_ids_to_fuse": set(options["label_ids_to_fuse"])}
            rows["panoptic"].append(plain(processor.post_process_panoptic_segmentation(outputs, **fused)))
    STORED.write_text(json.dumps(rows, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
