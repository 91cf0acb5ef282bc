"""Warnings where no label of a case meets itself, or a label of predictions is in no reference.

Masks that mean the same by other values (0 and 255 against 0 and 1, labels counted from 2 in place of 1) score 0 everywhere; the
number alone does not say why.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from voxelry.metrics.overlap import Counts, dice_of_confusion
from voxelry.metrics.scores import Scores

_NAMED = 5  # of the cases that a sentence counts


def label_warnings(scores: Scores) -> list[str]:
    """A sentence where cases have no voxel of a label in common, and one where labels that are only numbers are in no reference.

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
            "values and names"
        )
    numbers = np.array([re.fullmatch(r"label_[0-9]+", name) is not None for name in scores.labels], dtype=bool)
    spurious = numbers & guess.any(axis=0) & ~truth.any(axis=0)
    if spurious.any() and len(apart) < len(scores.cases):
        sentences.append(f"in predictions but in no reference, so they score 0: {_names(scores, spurious)}")
    return sentences


def _names(scores: Scores, where: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, here in zip(scores.labels, where, strict=True) if here)


def _foreground_dice(scores: Scores, cases: Counts) -> float:
    """The mean Dice of some cases with all labels as one."""
    counts = scores.confusions[cases]
    joined = np.zeros((len(cases), 2, 2), dtype=np.int64)
    joined[:, 0, 1], joined[:, 1, 0] = counts[:, 0, 1:].sum(axis=1), counts[:, 1:, 0].sum(axis=1)
    joined[:, 1, 1] = counts[:, 1:, 1:].sum(axis=(1, 2))
    return float(dice_of_confusion(joined)[:, 1].mean())
