"""Scores of a set of predictions per case and label, and the means that papers report.

Empty masks: a label that is in neither the reference nor the prediction of a case has no score there ("missing", NaN in
arrays, None in plain data) and enters no mean; a label that is in only one of them scores 0.

Training cases: where the splits of the cases are known and cases of others than ``train`` were scored, those alone (the held-out
cases) enter means; a network's scores on its training cases say nothing about new scans.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from voxelry.errors import UsageError
from voxelry.metrics.overlap import Counts, PairCounts, Values, dice_of_confusion, iou_of_confusion
from voxelry.metrics.pooling import ALL, Details, Pool
from voxelry.metrics.regions import count_regions

TRAINING = "train"
"""The split whose cases enter no mean where others were scored."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Overlap and other metrics of N cases and L labels.

    Attributes:
        cases: N case ids.
        labels: L label names, background left out.
        confusions: ``(N, L + 1, L + 1)`` int64 voxel counts, reference along rows, class 0 the background; voxels that the
            reference ignores are not counted.
        measures: other metrics by name, each ``(N, L)`` float64, NaN where missing (see `voxelry.metrics.families`).
        groups: the patient of each case, for statistics; empty where every case is a patient of its own.
        failed: cases that could not be scored, with the reason; they are not among the cases.
        splits: the split of each case (``train``, ``val``, ``test``, ``unused``); empty where they are not known.
        details: what single cases left for metrics of the whole set, each ``(N, L)`` (see `voxelry.metrics.pooling`).

    Example:
        >>> import numpy as np
        >>> from voxelry import Scores
        >>> scores = Scores(("case 1",), ("liver",), np.array([[[90, 10], [0, 20]]]))
        >>> round(scores.mean_dice, 3), scores.prediction_voxels.tolist()
        (0.8, [[30]])
    """

    cases: tuple[str, ...]
    labels: tuple[str, ...]
    confusions: Counts = field(repr=False)
    measures: Mapping[str, Values] = field(default_factory=dict, repr=False)
    groups: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    details: Details = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, values in (*self.measures.items(), *self.details.items()):
            if values.shape != (len(self.cases), len(self.labels)):
                raise UsageError(f"{name}: {values.shape} values for {len(self.cases)} cases and {len(self.labels)} labels")
        if self.groups and len(self.groups) != len(self.cases):
            raise UsageError(f"{len(self.groups)} groups for {len(self.cases)} cases")
        if self.splits and len(self.splits) != len(self.cases):
            raise UsageError(f"{len(self.splits)} splits for {len(self.cases)} cases")
        expected = (len(self.cases), len(self.labels) + 1, len(self.labels) + 1)
        if self.confusions.shape != expected:
            raise UsageError(f"confusion matrices of shape {self.confusions.shape} where {expected} are needed")

    @classmethod
    def merge(cls, sets: Sequence[Scores]) -> Scores:
        """The scores of several sets as one, cases in order.

        Labels are matched by name. A label that a set does not have is absent from its cases.

        Args:
            sets: at least one.

        Raises:
            UsageError: there is nothing to merge.
        """
        if not sets:
            raise UsageError("there are no scores to merge", remedy="Check that references and predictions share case ids.")
        labels = tuple(dict.fromkeys(name for scores in sets for name in scores.labels))
        cases = tuple(case for scores in sets for case in scores.cases)
        measures, details = (
            {
                name: np.concatenate([scores._wider(getattr(scores, kind), name, labels, absent) for scores in sets])
                for name in dict.fromkeys(name for scores in sets for name in getattr(scores, kind))
            }
            for kind, absent in (("measures", np.nan), ("details", None))
        )
        grouped = any(scores.groups for scores in sets)
        groups = tuple(group for scores in sets for group in scores.groups or scores.cases) if grouped else ()
        failed = {case: reason for scores in sets for case, reason in scores.failed.items()}
        known = any(scores.splits for scores in sets)
        splits = tuple(split for scores in sets for split in scores.splits or ("",) * len(scores.cases)) if known else ()
        confusions = np.concatenate([scores._over(labels) for scores in sets])
        return cls(cases, labels, confusions, measures, groups, failed, splits, details)

    def _wider(self, columns: Mapping[str, Any], name: str, labels: tuple[str, ...], absent: float | None) -> Any:
        """A column over a longer list of labels, `absent` where it was not measured."""
        wider = np.full((len(self.cases), len(labels)), absent)
        if name in columns:
            wider[:, [labels.index(label) for label in self.labels]] = columns[name]
        return wider

    def _over(self, labels: tuple[str, ...]) -> Counts:
        """The confusion matrices over a longer list of labels."""
        if labels == self.labels:
            return self.confusions
        position = [0, *(1 + labels.index(name) for name in self.labels)]
        wider = np.zeros((len(self.cases), len(labels) + 1, len(labels) + 1), dtype=np.int64)
        wider[np.ix_(range(len(self.cases)), position, position)] = self.confusions
        return wider

    @cached_property
    def held_out(self) -> Scores:
        """The scores that enter means: without the cases of the split ``train``, where there are others."""
        others = {split for split in self.splits if split != TRAINING}
        return self.of_splits(others) if others and TRAINING in self.splits else self

    def of_splits(self, names: Collection[str]) -> Scores:
        """The scores of the cases of some splits.

        Args:
            names: splits, such as ``val``.
        """
        rows = [n for n, split in enumerate(self.splits) if split in names]
        groups, splits = ([values[n] for n in rows] if values else [] for values in (self.groups, self.splits))
        cases = tuple(self.cases[n] for n in rows)
        measures, details = (
            {name: values[rows] for name, values in columns.items()} for columns in (self.measures, self.details)
        )
        return Scores(cases, self.labels, self.confusions[rows], measures, tuple(groups), self.failed, tuple(splits), details)

    @cached_property
    def dice(self) -> Values:
        """``(N, L)`` float64 Dice of each case and label; NaN where the label is in neither map."""
        return dice_of_confusion(self.confusions)[:, 1:]

    @cached_property
    def iou(self) -> Values:
        """``(N, L)`` float64 intersection over union of each case and label; NaN where the label is in neither map."""
        return iou_of_confusion(self.confusions)[:, 1:]

    @property
    def reference_voxels(self) -> Counts:
        """``(N, L)`` int64 voxels of each label in the references, ignored voxels left out."""
        counts: Counts = self.confusions.sum(axis=2)[:, 1:]
        return counts

    @property
    def prediction_voxels(self) -> Counts:
        """``(N, L)`` int64 voxels of each label in the predictions, ignored voxels left out."""
        counts: Counts = self.confusions.sum(axis=1)[:, 1:]
        return counts

    @property
    def missing(self) -> int:
        """The number of the N * L entries without a score, the label being in neither map."""
        return int(np.isnan(self.dice).sum())

    @property
    def mean_dice(self) -> float:
        """Mean Dice over held-out cases and foreground labels, as nnU-Net's ``foreground_mean``.

        For each label the mean over the cases that have a score, then the mean of those over the labels: every label weighs
        the same. A label that is missing in all cases is left out (nnU-Net then reports NaN). NaN if nothing has a score.
        """
        return _mean(_mean_rows(self.held_out.dice.T))

    @property
    def mean_iou(self) -> float:
        """Mean intersection over union over held-out cases and foreground labels, averaged as `mean_dice`."""
        return _mean(_mean_rows(self.held_out.iou.T))

    @property
    def case_mean_iou(self) -> Values:
        """``(N,)`` mean IoU within each case over the foreground labels that have a score there; NaN if none has.

        The background is not one of the labels.
        """
        return _mean_rows(self.iou)

    @property
    def pooled_mean_iou(self) -> float:
        """Mean IoU of all held-out voxels as if they were one image, over the foreground labels.

        The confusion matrices are summed over the set first, as semantic segmentation benchmarks do; large objects weigh
        more than in `mean_iou`. The background is left out of the mean. NaN if no label occurs.
        """
        return _mean(iou_of_confusion(self.held_out.confusions.sum(axis=0))[1:])

    @property
    def pooled_mean_iou_with_background(self) -> float:
        """As `pooled_mean_iou`, with the background as one more class (PASCAL VOC, ADE20K count it so)."""
        return _mean(iou_of_confusion(self.held_out.confusions.sum(axis=0)))

    @property
    def per_label(self) -> dict[str, dict[str, Any]]:
        """For each label name, the mean of every metric over the held-out cases that have it.

        Also ``cases``, the number with an overlap, and ``missing``: metric -> number without a score, where there are any. The
        means are None where no case has a score.
        """
        values = self.held_out.values
        missing = {metric: np.isnan(table).sum(axis=0) for metric, table in values.items()}
        means = {metric: _mean_rows(table.T) for metric, table in values.items()}
        return {
            name: {metric: _plain(column[k]) for metric, column in means.items()}
            | {
                "cases": len(self.held_out.cases) - int(missing["dice"][k]),
                "missing": {metric: int(column[k]) for metric, column in missing.items() if column[k]},
            }
            for k, name in enumerate(self.labels)
        }

    @property
    def pool(self) -> Pool:
        """The held-out cases taken together, for metrics that are defined over a whole set."""
        scores = self.held_out
        return Pool(scores.measures, scores.details, (len(scores.cases), len(scores.labels)))

    @property
    def pooled(self) -> dict[str, dict[str, float | None]]:
        """Metric -> label (and ``all labels``) -> value over the held-out cases taken together (`voxelry.metrics.pooling`)."""
        names = (*self.labels, ALL)
        return {
            metric: {name: _plain(value) for name, value in zip(names, values, strict=True)}
            for metric, values in self.pool.values().items()
        }

    def _repr_html_(self) -> str:
        """The means of each label and metric, for a notebook."""
        from voxelry.base.notebook_html import block, grid, sentences

        means = [
            [name, *(None if row[metric] is None else float(row[metric]) for metric in self.values), row["cases"]]
            for name, row in self.per_label.items()
        ]
        failed = [f"{case}: {reason}" for case, reason in self.failed.items()]
        title = f"Scores of {len(self.held_out.cases)} cases, mean Dice {self.mean_dice:.3f}"
        return block(title, grid(["label", *self.values, "cases"], means), sentences(failed))

    @property
    def values(self) -> dict[str, Values]:
        """Every metric by name, ``(N, L)``: ``dice``, ``iou``, then the `measures`."""
        return {"dice": self.dice, "iou": self.iou, **self.measures}

    def region_dice(self, regions: Mapping[str, Collection[str]]) -> dict[str, float | None]:
        """Mean Dice of unions of labels over the held-out cases in which they occur; None where they never do.

        Args:
            regions: name -> names of labels.
        """
        values = np.arange(len(self.labels) + 1)
        members = {name: [1 + self.labels.index(label) for label in labels] for name, labels in regions.items()}
        dice = [count_regions(PairCounts(values, values, counts), members).score("dice") for counts in self.held_out.confusions]
        means = _mean_rows(np.reshape(dice, (-1, len(members))).T)
        return {name: _plain(mean) for name, mean in zip(members, means, strict=True)}

    def rows(self) -> list[dict[str, Any]]:
        """One mapping per case and label: case, label, dice, iou (None where missing), reference_voxels, prediction_voxels.

        Also group and split, where they are known, and every metric of `measures`.
        """
        return [
            {
                "case": case,
                **({"group": self.groups[n]} if self.groups else {}),
                **({"split": self.splits[n]} if self.splits else {}),
                "label": label,
                **{name: _plain(values[n, k]) for name, values in self.values.items()},
                "reference_voxels": int(self.reference_voxels[n, k]),
                "prediction_voxels": int(self.prediction_voxels[n, k]),
            }
            for n, case in enumerate(self.cases)
            for k, label in enumerate(self.labels)
        ]

    def to_dict(self) -> dict[str, Any]:
        """A summary for JSON: means, per-label means, numbers of cases and missing entries, all of held-out cases; failed cases.

        Where splits are known also ``splits``: split -> ``cases``, ``mean_dice``, ``mean_iou``, ``labels``. None stands for no
        score.
        """
        splits = {name: self.of_splits({name}) for name in dict.fromkeys(self.splits)}
        return {
            "mean_dice": _plain(self.mean_dice),
            "mean_iou": _plain(self.mean_iou),
            "pooled_mean_iou": _plain(self.pooled_mean_iou),
            "pooled_mean_iou_with_background": _plain(self.pooled_mean_iou_with_background),
            "labels": self.per_label,
            "cases": len(self.held_out.cases),
            "missing": self.held_out.missing,
            "failed": dict(self.failed),
            **({"pooled": pooled} if (pooled := self.pooled) else {}),
            **({"splits": {name: scores._of_split() for name, scores in splits.items()}} if splits else {}),
        }

    def _of_split(self) -> dict[str, Any]:
        means = {"mean_dice": _plain(self.mean_dice), "mean_iou": _plain(self.mean_iou)}
        return {"cases": len(self.cases), **means, "labels": self.per_label}


def _mean(values: Values) -> float:
    """The mean of the numbers among `values`, NaN if there are none."""
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if scored.size else float("nan")


def _mean_rows(table: Values) -> Values:
    return np.array([_mean(row) for row in table], dtype=np.float64)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
