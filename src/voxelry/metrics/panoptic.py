"""Instance metrics: panoptic quality, detection scores, average precision, and lesion-wise Dice as in BraTS.

Empty masks. No object in either map: every score is missing (NaN), the counts are 0. Objects in one map only: quality and
F1 are 0; sensitivity is missing where there is no reference object, precision where there is no predicted one, since no
denominator exists. Segmentation quality is missing where nothing matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelry.errors import GridMismatchError
from voxelry.metrics.empty_policy import MISSING
from voxelry.metrics.instances import ObjectMap, ObjectOverlaps, Values, connected_objects, object_overlaps
from voxelry.metrics.matching import Matches, MatchMethod, match

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The IoU thresholds of the Data Science Bowl 2018 and of COCO: 0.50, 0.55, ..., 0.95."""


@dataclass(frozen=True)
class InstanceScores:
    """Detection and segmentation scores of the objects of one class.

    Attributes:
        tp: matched objects.
        fp: predicted objects without a partner.
        fn: reference objects without a partner.
        pq: panoptic quality, ``sq * rq`` (Kirillov et al. 2019): the sum of IoU over tp + fp / 2 + fn / 2.
        sq: segmentation quality, the mean IoU of the matched pairs.
        rq: recognition quality, which is F1 of the objects: tp / (tp + fp / 2 + fn / 2).
        lesion_dice: the Dice of matched pairs, summed, over tp + fp + fn: a missed or spurious object counts 0.
        matched_dice: the mean Dice of the matched pairs.
        sensitivity: tp / (tp + fn).
        precision: tp / (tp + fp).
        count_error: predicted objects minus reference objects.
    """

    tp: int
    fp: int
    fn: int
    pq: float
    sq: float
    rq: float
    lesion_dice: float
    matched_dice: float
    sensitivity: float
    precision: float
    count_error: int

    @property
    def f1(self) -> float:
        """F1 of the objects; the same number as `rq`."""
        return self.rq

    def to_dict(self) -> dict[str, float]:
        """Every score by name, `f1` among them; NaN where missing."""
        return {**asdict(self), "f1": self.f1}


def score_matches(matches: Matches) -> InstanceScores:
    """Score matched objects.

    Args:
        matches: matches of one class, see `voxelry.metrics.matching.match`.

    Returns:
        The scores; NaN where one is missing (see the module).
    """
    tp, fp, fn = matches.tp, matches.fp, matches.fn
    iou, dice = float(matches.iou.sum()), float(matches.dice.sum())
    halves = tp + (fp + fn) / 2
    return InstanceScores(
        tp=tp,
        fp=fp,
        fn=fn,
        pq=_ratio(iou, halves),
        sq=_ratio(iou, tp),
        rq=_ratio(tp, halves),
        lesion_dice=_ratio(dice, tp + fp + fn),
        matched_dice=_ratio(dice, tp),
        sensitivity=_ratio(tp, tp + fn),
        precision=_ratio(tp, tp + fp),
        count_error=fp - fn,
    )


def average_precision(pairs: ObjectOverlaps, thresholds: Sequence[float] = AP_THRESHOLDS) -> Values:
    """TP / (TP + FP + FN) at each IoU threshold, as the Data Science Bowl 2018 and StarDist (Schmidt et al. 2018) report it.

    The detection literature calls this accuracy; there AP is the area under a precision-recall curve.

    Args:
        pairs: overlaps of the objects of one class.
        thresholds: IoU, each above 0; equality counts.

    Returns:
        ``(T,)`` float64 in 0..1; the mean over `AP_THRESHOLDS` is the DSB 2018 score. NaN without any object.
    """
    matches = [match(pairs, threshold, "optimal") for threshold in thresholds]
    return np.array([_ratio(m.tp, m.tp + m.fp + m.fn) for m in matches], dtype=np.float64)


def instance_scores(
    reference: ObjectMap, prediction: ObjectMap, classes: int, threshold: float = 0.5, method: MatchMethod = "greedy"
) -> list[InstanceScores]:
    """Match and score the objects of every class.

    Args:
        reference: objects of the truth.
        prediction: objects of the map to judge, on the same grid.
        classes: K, background included.
        threshold: the smallest IoU of a match.
        method: see `voxelry.metrics.matching.match`.

    Returns:
        One entry for each class 1..K-1.

    Raises:
        GridMismatchError: the shapes differ.
        UsageError: see `voxelry.metrics.matching.match`.
    """
    pairs = object_overlaps(reference, prediction)
    return [score_matches(match(pairs.of_class(index), threshold, method)) for index in range(1, classes)]


@dataclass(frozen=True)
class LesionWise:
    """Lesion-wise scores of one region as in BraTS.

    Attributes:
        dice: the mean over lesions, where missed and spurious lesions count 0; NaN where there is neither lesion nor prediction.
        lesions: Dice of each reference lesion above the size limit, in order.
        fp: predicted objects that touch no reference lesion.
        fn: reference lesions that no prediction touches.
    """

    dice: float
    lesions: tuple[float, ...]
    fp: int
    fn: int


def brats_lesion_wise(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    voxel_volume: float = 1.0,
    *,
    dilation: int = 3,
    smallest: float = 50.0,
) -> LesionWise:
    """Lesion-wise Dice as in the BraTS 2023 challenge.

    Components (26-connected) of the reference that touch each other after dilation are one lesion. All predicted components that
    touch a dilated lesion are compared with it together; the others are false positives. Lesions up to `smallest` are left out of
    the mean, but predictions that touch them are not false positives. Predictions are not filtered by size.

    Args:
        reference: ``(x, y, z)`` bool, one region such as the whole tumour.
        prediction: ``(x, y, z)`` bool.
        voxel_volume: mm3.
        dilation: steps of dilation with 18 neighbours; the challenge takes 3 (1 for children and for metastases).
        smallest: lesions of at most this many mm3 do not count; the challenge takes 50 for glioma.

    Returns:
        The scores. Where both masks are empty the challenge gives 1; here the score is missing.

    Raises:
        GridMismatchError: the shapes differ.
    """
    if reference.shape != prediction.shape:
        raise GridMismatchError(f"a reference of shape {reference.shape} against a prediction of {prediction.shape}")
    grown = _dilated(reference, dilation)
    group = connected_objects(grown).ids
    lesion_of = group * reference.astype(bool)
    guesses = connected_objects(prediction)
    sizes = np.bincount(guesses.ids.ravel(), minlength=len(guesses) + 1)
    touching: set[int] = set()
    scores, missed = [], 0
    for number, box in enumerate(ndimage.find_objects(group), start=1):
        lesion = lesion_of[box] == number
        # The dilated lesion itself: within the box of its group, without a neighbour's voxels.
        reached = np.unique(guesses.ids[box][group[box] == number])
        partners = reached[reached > 0]
        touching.update(partners.tolist())
        volume = int(lesion.sum())
        if volume * voxel_volume <= smallest:
            continue
        missed += not partners.size
        shared = int(np.isin(guesses.ids[box][lesion], partners).sum())
        scores.append(2 * shared / (volume + int(sizes[partners].sum())))
    spurious = len(guesses) - len(touching)
    return LesionWise(_ratio(sum(scores), len(scores) + spurious), tuple(scores), spurious, missed)


def _dilated(mask: NDArray[Any], steps: int) -> NDArray[np.bool_]:
    """The mask grown by steps of 18 neighbours (8 in 2D)."""
    if not steps:
        return mask.astype(bool)
    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(mask.ndim, 2), iterations=steps)
    return grown


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else MISSING
