"""Sentences about the names in a row: what was corrected, left out, joined, is missing, too large or uncertain."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from voxelry.base.listing import counted, shown
from voxelry.inference.named_row import NamedObject, NamedRow

EXPECTED = 0.8
"""Share of training cases from which a label is missed where a scan does not show it."""

LARGE = 1.5
"""An object of this many times the volume that the others suggest may be two."""

_MOST_ALTERNATIVES, _UNLIKELY = 2, 0.05


def row_flags(row: NamedRow) -> list[str]:
    """What a reader of the labels should know of a row.

    Args:
        row: with its names.

    Returns:
        Sentences, each of which begins with the row's name; none for a row that was predicted as it is named.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, LabelMap, LabelSequence, LabelTable
        >>> from voxelry.inference import name_rows, row_flags
        >>> table = LabelTable.numbered([1, 2, 3])
        >>> array = np.zeros((5, 5, 15), np.uint8)
        >>> array[1:4, 1:4, 1:4], array[1:4, 1:4, 6:9], array[1:4, 1:4, 11:14] = 1, 1, 3
        >>> labels = LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 1)), table)
        >>> rows = name_rows(labels, [LabelSequence(name="row", labels=table.names)])[1]
        >>> row_flags(rows[0])
        ['row: names were corrected by their order (33% of the voxels): label_2 was predicted as label_1']
    """
    sentences = [*_uncertain(row), *_strayed(row), *_corrected(row), *_missing(row), *_left_out(row), *_joined(row), *_large(row)]
    if row.choices[0].is_reversed:
        sentences.append("its order runs against that of the training cases; check the orientation of the scan")
    return [f"{row.sequence.name}: {sentence}" for sentence in sentences]


def _uncertain(row: NamedRow) -> list[str]:
    if row.is_certain:
        return []
    parts = []
    for each in row.objects:
        likely = [pair for pair in each.alternatives.items() if pair[1] >= _UNLIKELY]
        others = sorted(likely, key=lambda pair: -pair[1])[:_MOST_ALTERNATIVES]
        if others:
            words = " or ".join(f"{name or 'no object of the row'} ({share:.2g})" for name, share in others)
            parts.append(f"{_called(each)} may be {words}")
    return [f"the names are uncertain (likelihood compared with the name given): {shown(parts, 8)}"] if parts else []


def _strayed(row: NamedRow) -> list[str]:
    if not row.strayed:
        return []
    objects = counted(len(row.strayed), "object lies", "objects lie")
    return [f"{objects} in it that had labels of another row ({shown(row.strayed, 8)}), and were named by their place"]


def _corrected(row: NamedRow) -> list[str]:
    renamed = [each for each in row.objects if each.name not in (None, each.predicted)]
    changes = [f"{each.name} was predicted as {each.predicted}" for each in renamed]
    if changes:
        return [f"names were corrected by their order ({row.renamed:.0%} of the voxels): {shown(changes, 8)}"]
    return [f"{row.renamed:.0%} of the voxels took the name of the object they lie in"] if row.renamed >= 0.01 else []


def _missing(row: NamedRow) -> list[str]:
    labels, sequence = row.sequence.labels, row.sequence
    places = [labels.index(name) for name in row.names]
    sentences = []
    for before, after in pairwise(places):
        absent = [label for label in labels[before + 1 : after] if label not in sequence.optional]
        if absent:
            sentences.append(f"{shown(absent)} is missing between {labels[before]} and {labels[after]}")
    ends = [*labels[: min(places, default=0)], *labels[max(places, default=-1) + 1 :]]
    usual = [label for label, chance in zip(labels, sequence.chances, strict=True) if sequence.cases and chance >= EXPECTED]
    missed = [label for label in ends if label in usual and label not in sequence.optional]
    return [*sentences, f"not found: {shown(missed, 8)}"] if missed else sentences


def _left_out(row: NamedRow) -> list[str]:
    sentences = [
        f"an object of {each.volume:.0f} {_unit(each)} at {_place(each)}, predicted as {each.predicted}, has no place in the row "
        "and was left out"
        for each in row.objects
        if each.name is None
    ]
    dropped = row.debris[1]
    return [*sentences, f"{counted(dropped, 'small part was', 'small parts were')} left out"] if dropped else sentences


def _joined(row: NamedRow) -> list[str]:
    return [f"{each.name} was joined from {each.pieces} pieces" for each in row.objects if each.pieces > 1]


def _large(row: NamedRow) -> list[str]:
    """Objects larger than the rest of the row lets expect: two that were not told apart, perhaps."""
    labels, spreads = row.sequence.labels, row.sequence.volumes or (None,) * len(row.sequence.labels)
    known = [spread.mean for spread in spreads if spread is not None]
    usual = [math.nan if spread is None else spread.mean for spread in spreads]
    default = float(np.mean(known)) if known else 1.0
    named = [each for each in row.objects if each.name is not None]
    ratios = [each.volume / np.nan_to_num(usual[labels.index(str(each.name))], nan=default) for each in named]
    sentences = []
    for number, each in enumerate(named):
        others = ratios[:number] + ratios[number + 1 :]
        if others and ratios[number] >= LARGE * (scale := float(np.median(others))):
            times = ratios[number] / scale
            sentences.append(f"{each.name} has {times:.1f} times the volume that the others suggest; it may be two objects")
    return sentences


def _called(each: NamedObject) -> str:
    return each.name or f"the object at {_place(each)}"


def _place(each: NamedObject) -> str:
    return f"({', '.join(f'{value:.0f}' for value in each.centroid)})"


def _unit(each: NamedObject) -> str:
    return "mm^3" if len(each.centroid) == 3 else "mm^2"
