"""Chooses clean-up rules (largest component, minimum volume, filled holes) for each label, where they help on validation cases.

A rule changes only its own label and the background, so each label is decided by itself: it gets the rule with the highest mean
Dice over the validation cases, if that is more than `GAIN` above the mean without a rule; no other label can get worse. Mirror
twins (left kidney, right kidney) are decided together, by the mean of both, and get the same rule. A label of which a case has
several objects never keeps its largest component alone. The idea is nnU-Net's (Isensee et al. 2021,
doi:10.1038/s41592-020-01008-z), which has the largest component alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import LabelMap
from voxelry.inference.cleanup import clean
from voxelry.metrics.evaluate import score

GAIN = 1e-4
"""A smaller rise of the mean Dice counts as rounding."""

_MIN_MM3 = (10.0, 100.0, 1000.0)


class CleanUpChoice:
    """Tries every rule on one validation case after the other, then gives the rules that help.

    Args:
        table: the labels.
        dimensions: 2 or 3; in pictures, which may lack a pixel size, nothing is removed by its area.
    """

    def __init__(self, table: LabelTable, dimensions: int) -> None:
        volumes = _MIN_MM3 if dimensions == 3 else ()
        self.candidates: list[dict[str, Any]] = [
            {"keep_largest": True},
            *({"min_mm3": volume} for volume in volumes),
            {"fill_holes": True},
            {"keep_largest": True, "fill_holes": True},
        ]
        self.table = table
        self._countable = np.zeros(len(table), bool)
        self._dice: list[NDArray[np.float64]] = []

    def add(self, reference: LabelMap, prediction: LabelMap) -> None:
        """Try every rule on one case.

        Args:
            reference: the truth.
            prediction: the network's, before clean-up, with `table`'s labels.
        """
        cleaned = [prediction] + [
            clean(prediction, [CleanUp(label=name, **rule) for name in self.table.names]) for rule in self.candidates
        ]
        scores = [score(reference, labels) for labels in cleaned]
        columns = [scores[0].labels.index(name) for name in self.table.names]
        dice = np.stack([case_scores.dice[0, columns] for case_scores in scores])
        self._countable |= [_objects(reference, name) > 1 for name in self.table.names]
        self._dice.append(np.nan_to_num(dice, nan=1.0))  # correctly absent

    def rules(self) -> tuple[CleanUp, ...]:
        """The best rule of each label for which a rule helps."""
        return tuple(
            CleanUp(label=name, **self.candidates[best - 1])
            for name, best, gain in zip(self.table.names, *self._best(), strict=True)
            if gain > GAIN
        )

    def record(self) -> dict[str, Any]:
        """For the model's card: the number of cases, and the mean Dice before and after for each label that got a rule."""
        if not self._dice:
            return {"cases": 0, "mean_dice": {}}
        mean = np.mean(self._dice, axis=0)
        changed = {
            name: {"before": round(float(mean[0, column]), 6), "after": round(float(mean[best, column]), 6)}
            for column, (name, best, gain) in enumerate(zip(self.table.names, *self._best(), strict=True))
            if gain > GAIN
        }
        return {"cases": len(self._dice), "mean_dice": changed}

    def _best(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """For each label the best row (0: no rule; of equals the first) and its gain in mean Dice over row 0, twins together."""
        if not self._dice:
            return np.zeros(len(self.table), np.int64), np.zeros(len(self.table))
        mean = np.mean(self._dice, axis=0)
        twins = [number - 1 for number in self.table.mirror_classes()[1:]]
        mean = (mean + mean[:, twins]) / 2
        largest = np.array([False, *("keep_largest" in rule for rule in self.candidates)])
        mean[largest[:, None] & (self._countable | self._countable[twins])] = 0.0
        return mean.argmax(axis=0), mean.max(axis=0) - mean[0]


def _objects(labels: LabelMap, name: str) -> int:
    """Objects of a label that its map tells apart."""
    if labels.instances is None:
        return 0
    ids = labels.instances[labels.table[name].layer][labels.mask(name)]
    return len(np.unique(ids[ids > 0]))
