"""Post-processing of logits as Hugging Face's processors do it: semantic, instance and panoptic, of pictures and volumes.

Parameters, rules and results are those of ``MaskFormerImageProcessor`` in transformers 5 (semantic segmentation also those of
``SegformerImageProcessor``), which this was tested against. It differs in three ways: volumes ``(depth, height, width)`` work as
pictures do; maps are int32 where that library mixes floats in; and ids of a panoptic map are unique, where that library gives the
object after a fused segment an id that another one may have.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from voxelry.errors import UsageError

log = logging.getLogger(__name__)

Sizes = Sequence[Sequence[int]]

_NOTHING = -1
_EPSILON = 1e-6
"""Added to an area that scores are divided by, as that library adds it."""


def post_process_semantic_segmentation(outputs: Any, target_sizes: Sizes | None = None) -> list[Tensor]:
    """Class of each voxel.

    Args:
        outputs: ``(B, K, *spatial)`` logits, or an object or mapping that has them as ``logits``; or one with
            ``class_queries_logits`` ``(B, Q, K + 1)`` and ``masks_queries_logits`` ``(B, Q, *spatial)``.
        target_sizes: spatial size of each map; logits are interpolated linearly before the largest wins. None keeps theirs.

    Returns:
        A map ``(*spatial)`` int64 of class indices for each item of the batch.

    Raises:
        UsageError: none of these outputs, shapes that do not fit, or a size too few or too many.

    Example:
        >>> import torch
        >>> from voxelry.adapters import post_process_semantic_segmentation
        >>> logits = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])
        >>> post_process_semantic_segmentation(logits, target_sizes=[(1, 4)])[0].tolist()
        [[1, 1, 0, 0]]
    """
    logits = outputs if isinstance(outputs, Tensor) else _field(outputs, "logits")
    if logits is None:
        classes, masks = _queries(outputs)
        logits = torch.einsum("bqc,bq...->bc...", classes.softmax(-1)[..., :-1], masks.sigmoid())
    if logits.ndim not in (4, 5):
        raise UsageError(f"logits of shape {tuple(logits.shape)}", remedy="Give (batch, classes, height, width), or a volume's.")
    sizes = _checked_sizes(target_sizes, logits)
    return [_resized(item, size).argmax(0) for item, size in zip(logits, sizes, strict=True)]


def post_process_instance_segmentation(
    outputs: Any,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    target_sizes: Sizes | None = None,
    return_coco_annotation: bool = False,
    return_binary_maps: bool = False,
) -> list[dict[str, Any]]:
    """Objects, which may overlap: the best pairs of query and class, as many as there are queries, with their masks.

    Args:
        outputs: an object or mapping with ``class_queries_logits`` and ``masks_queries_logits``, as for semantic segmentation.
        threshold: smallest score (probability of the class, times the mean probability of the mask) of an object.
        mask_threshold: without effect here, as in that library: a mask is where its probability is above 0.5. A warning says so
            where it is changed.
        overlap_mask_area_threshold: likewise.
        target_sizes: spatial size of each map; masks are resized by the nearest voxel.
        return_coco_annotation: give run lengths in place of the map: of each of its values in order, the start of each run
            (counted from 1) and its length.
        return_binary_maps: give a mask for each object in place of the map, in which the last object wins.

    Returns:
        Of each item ``segmentation``, an int32 map of ids from 0 with -1 elsewhere, and ``segments_info``, a list of ``id``,
        ``label_id``, ``was_fused`` and ``score``. Binary maps are ``(objects, *spatial)`` float32; without an object the map is
        returned.

    Raises:
        UsageError: other outputs, shapes that do not fit, or both other forms at once.

    Example:
        >>> import torch
        >>> from voxelry.adapters import post_process_instance_segmentation
        >>> outputs = {
        ...     "class_queries_logits": torch.tensor([[[9.0, 0.0, 0.0]]]),
        ...     "masks_queries_logits": torch.tensor([[[[9.0, -9.0]]]]),
        ... }
        >>> [result] = post_process_instance_segmentation(outputs)
        >>> result["segmentation"].tolist(), result["segments_info"][0]["label_id"]
        ([[0, -1]], 0)
    """
    if return_coco_annotation and return_binary_maps:
        raise UsageError("return_coco_annotation and return_binary_maps at once", remedy="Ask for one of them.")
    if (mask_threshold, overlap_mask_area_threshold) != (0.5, 0.8):
        log.warning("mask_threshold and overlap_mask_area_threshold change nothing in instance segmentation of queries")
    classes, masks = _queries(outputs)
    sizes = _checked_sizes(target_sizes, masks)
    results = []
    for class_logits, mask_logits, size in zip(classes, masks, sizes, strict=True):
        segmentation, segments, binary = _objects(class_logits, mask_logits, size, threshold)
        form: Any = segmentation
        if return_coco_annotation:
            plain = segmentation.numpy(force=True)
            form = [_runs(plain == value) for value in np.unique(plain)]
        elif return_binary_maps and binary:
            form = torch.stack(binary)
        results.append({"segmentation": form, "segments_info": segments})
    return results


def post_process_panoptic_segmentation(
    outputs: Any,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    label_ids_to_fuse: Collection[int] | None = None,
    target_sizes: Sizes | None = None,
) -> list[dict[str, Any]]:
    """Objects and stuff without overlap: each voxel goes to the query whose probability times score is largest.

    Args:
        outputs: an object or mapping with ``class_queries_logits`` and ``masks_queries_logits``, as for semantic segmentation.
        threshold: queries whose class has at most this probability, or that are of no class, are left out.
        mask_threshold: probability times score from which a voxel counts to a query's own area.
        overlap_mask_area_threshold: a query is left out, and its voxels remain empty, where it wins at most this share of its own
            area.
        label_ids_to_fuse: classes all of whose queries are one segment; None for none.
        target_sizes: spatial size of each map; probabilities are interpolated linearly.

    Returns:
        Of each item ``segmentation``, an int32 map of ids from 1 with 0 elsewhere (-1 everywhere where no query is left), and
        ``segments_info``, a list of ``id``, ``label_id``, ``was_fused`` and ``score``; a fused segment is listed once for each of
        its queries.

    Raises:
        UsageError: other outputs, or shapes that do not fit.

    Example:
        >>> import torch
        >>> from voxelry.adapters import post_process_panoptic_segmentation
        >>> outputs = {
        ...     "class_queries_logits": torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]]),
        ...     "masks_queries_logits": torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]]),
        ... }
        >>> [result] = post_process_panoptic_segmentation(outputs, label_ids_to_fuse={1})
        >>> result["segmentation"].tolist(), [row["was_fused"] for row in result["segments_info"]]
        ([[1, 2]], [False, True])
    """
    fused = frozenset(label_ids_to_fuse or ())
    classes, masks = _queries(outputs)
    sizes = _checked_sizes(target_sizes, masks)
    results = []
    for class_logits, mask_logits, size in zip(classes, masks, sizes, strict=True):
        scores, labels = class_logits.softmax(-1).max(-1)
        kept = (labels != class_logits.shape[-1] - 1) & (scores > threshold)
        if not kept.any():
            empty = torch.full(size, _NOTHING, dtype=torch.int32, device=mask_logits.device)
            results.append({"segmentation": empty, "segments_info": []})
            continue
        weighted = _resized(mask_logits[kept].sigmoid(), size) * scores[kept].view(-1, *[1] * len(size))
        areas = (mask_threshold, overlap_mask_area_threshold)
        segmentation, segments = _partition(weighted, scores[kept].tolist(), labels[kept].tolist(), areas, fused)
        results.append({"segmentation": segmentation, "segments_info": segments})
    return results


def _objects(
    class_logits: Tensor, mask_logits: Tensor, size: tuple[int, ...], threshold: float
) -> tuple[Tensor, list[dict[str, Any]], list[Tensor]]:
    """The map, the rows and the masks of one item's objects."""
    classes, queries = class_logits.shape[-1] - 1, len(class_logits)
    best, places = class_logits.softmax(-1)[:, :-1].flatten().topk(queries, sorted=False)
    chosen = mask_logits[places // classes].flatten(1)
    inside = (chosen > 0).float()
    means = (chosen.sigmoid() * inside).sum(1) / (inside.sum(1) + _EPSILON)
    masks = inside.view(-1, *mask_logits.shape[1:])
    if size != tuple(masks.shape[1:]):
        masks = functional.interpolate(masks[None], size=size, mode="nearest")[0]
    segmentation = torch.full(size, _NOTHING, dtype=torch.int32, device=masks.device)
    segments: list[dict[str, Any]] = []
    binary: list[Tensor] = []
    for mask, label, score in zip(masks, (places % classes).tolist(), (best * means).tolist(), strict=True):
        if score >= threshold and mask.any():
            segmentation[mask == 1] = len(segments)
            segments.append(_segment(len(segments), label, False, score))
            binary.append(mask)
    return segmentation, segments, binary


def _partition(
    weighted: Tensor, scores: Sequence[float], labels: Sequence[int], areas: tuple[float, float], fused: Collection[int]
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The map and the rows of one item's segments, from probabilities of masks times scores."""
    winner = weighted.argmax(0)
    segmentation = torch.zeros(winner.shape, dtype=torch.int32, device=winner.device)
    segments: list[dict[str, Any]] = []
    of_label: dict[int, int] = {}
    ids = 0
    for query, (score, label) in enumerate(zip(scores, labels, strict=True)):
        mask = winner == query
        own, won = (weighted[query] >= areas[0]).sum(), mask.sum()
        if not own or not won or (won / own).item() <= areas[1]:
            continue
        if label not in of_label:
            ids += 1
        number = of_label.get(label, ids)
        if label in fused:
            of_label[label] = number
        segmentation[mask] = number
        segments.append(_segment(number, label, label in fused, score))
    return segmentation, segments


def _segment(number: int, label: int, was_fused: bool, score: float) -> dict[str, Any]:
    return {"id": number, "label_id": label, "was_fused": was_fused, "score": round(score, 6)}


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Starts, counted from 1, and lengths of the runs of a mask, row after row."""
    edges = np.flatnonzero(np.diff(np.pad(mask.ravel().astype(np.int8), 1))) + 1
    return np.stack([edges[::2], edges[1::2] - edges[::2]], axis=1).ravel().tolist()


def _resized(item: Tensor, size: tuple[int, ...]) -> Tensor:
    """``(C, *spatial)`` interpolated linearly, where the size is another."""
    if size == tuple(item.shape[1:]):
        return item
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return functional.interpolate(item[None], size=size, mode=mode, align_corners=False)[0]


def _field(outputs: Any, name: str) -> Any:
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def _queries(outputs: Any) -> tuple[Tensor, Tensor]:
    """Logits of the classes and masks of queries.

    Raises:
        UsageError: they are not there, or of shapes that do not fit.
    """
    classes, masks = _field(outputs, "class_queries_logits"), _field(outputs, "masks_queries_logits")
    if classes is None or masks is None:
        raise UsageError(
            f"a {type(outputs).__name__} without class_queries_logits and masks_queries_logits",
            remedy="Give the outputs of a MaskFormer; of a voxelry model, segmentation_result takes the Prediction.",
        )
    if classes.ndim != 3 or masks.ndim not in (4, 5) or classes.shape[:2] != masks.shape[:2] or classes.shape[2] < 2:
        raise UsageError(
            f"class_queries_logits of shape {tuple(classes.shape)} beside masks_queries_logits of {tuple(masks.shape)}",
            remedy="Give (batch, queries, classes + 1) and (batch, queries, height, width), or a volume's.",
        )
    return classes.float(), masks.float()


def _checked_sizes(target_sizes: Sizes | None, logits: Tensor) -> list[tuple[int, ...]]:
    """The spatial size of each map.

    Raises:
        UsageError: not one for each item, or of other axes.
    """
    spatial = tuple(logits.shape[2:])
    if target_sizes is None:
        return [spatial] * len(logits)
    sizes = [tuple(int(n) for n in size) for size in target_sizes]
    if len(sizes) != len(logits) or any(len(size) != len(spatial) or min(size) < 1 for size in sizes):
        raise UsageError(
            f"target_sizes {sizes} for a batch of {len(logits)} with {len(spatial)} spatial axes",
            remedy="Give a size for each item, such as [(480, 640)].",
        )
    return sizes
