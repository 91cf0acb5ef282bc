"""Warnings where no label of a case meets itself, numbers are exchanged, or a label of predictions is in no reference.

Masks that mean the same by other values (0 and 255 against 0 and 1, labels counted from 2 in place of 1) score 0 everywhere; the
number alone does not say why. Values that are ids of objects meet by chance.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from voxelry.base.listing import shown
from voxelry.metrics.overlap import Counts, dice_of_confusion
from voxelry.metrics.scores import Scores

_NAMED = 5  # of the cases that a sentence counts
_EXCHANGED, _OF_ONE = 0.5, 0.8
"""Shares of the voxels labelled in both: fewer have the same number than the first, more the reference's commonest other."""

_FEW = 2
"""Labels that nobody takes for ids of objects."""

_IDS_REMEDY = "; ids of objects are scored with a dataset card (`instances: mask_ids`)"


def label_warnings(scores: Scores) -> list[str]:
    """Sentences where cases have no voxel of a label in common, or labels that are only numbers are exchanged or in no reference.

    Args:
        scores: scores of one case or more.

    Example:
        >>> import numpy as np
        >>> from voxelry import Geometry, LabelMap, LabelTable
        >>> from voxelry.metrics import measure
        >>> from voxelry.metrics.shared_labels import label_warnings
        >>> def mask(value):
        ...     array = np.full((4, 4, 4), value, np.uint8)
        ...     return LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 1)), LabelTable.numbered([value]))
        >>> label_warnings(measure(mask(1), mask(255), "a"))[0][:60]
        '1 of 1 cases have no voxel of a label in common, so every ove'
    """
    truth, guess = scores.reference_voxels > 0, scores.prediction_voxels > 0
    meet = scores.confusions[:, 1:, 1:].any(axis=(1, 2)) | ~(truth & guess).any(axis=1)  # or: they could not, by their values
    apart = np.flatnonzero(truth.any(axis=1) & guess.any(axis=1) & ~(scores.dice > 0).any(axis=1) & meet)
    numbers = np.array([re.fullmatch(r"label_[0-9]+", name) is not None for name in scores.labels], dtype=bool)
    sentences = []
    if len(apart):
        cases = [
            f"{scores.cases[n]} ({_names(scores, truth[n])} in the reference, {_names(scores, guess[n])} in the prediction)"
            for n in apart[:_NAMED]
        ]
        more = ", ..." if len(apart) > _NAMED else ""
        sentences.append(
            f"{len(apart)} of {len(scores.cases)} cases have no voxel of a label in common, so every overlap is 0: "
            f"{', '.join(cases)}{more}. "
            f"As one foreground they overlap with a Dice of {_foreground_dice(scores, apart):.3f}. Check that both use the same "
            f"values and names{_IDS_REMEDY if numbers.sum() > _FEW else ''}"
        )
    exchanged = [n for n in range(len(scores.cases)) if n not in apart and numbers.all() and _is_exchanged(scores.confusions[n])]
    if exchanged:
        sentences.append(
            f"in {len(exchanged)} of {len(scores.cases)} cases most labels lie where the prediction has another number "
            f"({shown([scores.cases[n] for n in exchanged])}): as one foreground they overlap with a Dice of "
            f"{_foreground_dice(scores, np.array(exchanged)):.3f}. Check that both use the same values{_IDS_REMEDY}"
        )
    spurious = numbers & guess.any(axis=0) & ~truth.any(axis=0)
    if spurious.any() and len(apart) < len(scores.cases):
        sentences.append(f"in predictions but in no reference, so they score 0: {_names(scores, spurious)}")
    return sentences


def _is_exchanged(confusion: Counts) -> bool:
    """Most voxels that are labelled in both have another label there, and each label of the reference the same one."""
    labelled = confusion[1:, 1:]
    total = labelled.sum()
    return bool(np.trace(labelled) < _EXCHANGED * total and labelled.max(axis=1).sum() >= _OF_ONE * total)


def _names(scores: Scores, where: NDArray[np.bool_]) -> str:
    return shown([name for name, here in zip(scores.labels, where, strict=True) if here])


def _foreground_dice(scores: Scores, cases: Counts) -> float:
    """The mean Dice of some cases with all labels as one."""
    counts = scores.confusions[cases]
    joined = np.zeros((len(cases), 2, 2), dtype=np.int64)
    joined[:, 0, 1], joined[:, 1, 0] = counts[:, 0, 1:].sum(axis=1), counts[:, 1:, 0].sum(axis=1)
    joined[:, 1, 1] = counts[:, 1:, 1:].sum(axis=(1, 2))
    return float(dice_of_confusion(joined)[:, 1].mean())
