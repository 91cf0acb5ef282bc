"""Objects on another row's side than their label says, such as a tooth called as one of the other jaw, brought into that row.

Two rows that lie apart (dental arches, ribs of either side) are told apart by a linear discriminant of the objects' centroids:
fitted to the rows of their labels, then to the sides on which they lie, until these stay. Other rows are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from voxelry.core.label_sequence import LabelSequence
from voxelry.core.volume import LabelMap
from voxelry.inference.row_objects import RowObjects, find_row
from voxelry.inference.sequence_costs import JUNK

APART = 6.0
"""Least distance of the means of two rows that lie apart, in standard deviations of the objects around them."""

MOST_STRAYED = 0.4
"""Largest share of objects that lie on the other side; more, and the sides are not those of the rows."""

BEYOND = 0.25
"""Least distance of a stray object from the middle between the rows, as a share of that of their means; others stay."""

FEWEST = 4
"""Objects of a row from which its side is known."""

_ROUNDS = 10


@dataclass
class Strays:
    """What was brought into other rows.

    Attributes:
        labels: name of a row -> labels that the objects had which were brought into it.
        instances: their ids, where the map has ids.
    """

    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    instances: set[int] = field(default_factory=set)


def sort_into_rows(labels: LabelMap, sequences: Sequence[LabelSequence]) -> tuple[LabelMap, Strays]:
    """Give objects that lie on another row's side a label of that row, free and near, to be named by their place.

    Args:
        labels: a prediction, with or without instances.
        sequences: rows of its labels.

    Returns:
        The map, and what was changed.

    Raises:
        LabelError: the map's table lacks a label of a row.
    """
    strays = Strays()
    for pair in combinations(sequences, 2):
        layers = {labels.table[sequence.labels[0]].layer for sequence in pair}
        rows = [find_row(labels, sequence) for sequence in pair] if len(layers) == 1 else [None]
        known = [row for row in rows if row is not None]
        if len(known) == len(pair):
            labels = _sorted_pair(labels, pair, known, strays)
    return labels, strays


def _sorted_pair(labels: LabelMap, pair: Sequence[LabelSequence], rows: Sequence[RowObjects], strays: Strays) -> LabelMap:
    """Two rows; see `sort_into_rows`."""
    members = [
        (side, number, each)
        for side, (sequence, row) in enumerate(zip(pair, rows, strict=True))
        for number, each in enumerate(row.ordered(sequence, {}))
    ]
    usual = float(np.median([each.volume for *_, each in members]))
    members = [member for member in members if member[2].volume >= JUNK * usual]
    points = np.array([each.centroid for *_, each in members])
    own = np.array([side for side, *_ in members])
    sides = sides_of(points, own)
    if sides is None or np.array_equal(sides, own):
        return labels
    layer = labels.table[pair[0].labels[0]].layer
    layers = labels.layers.copy(order="K")
    places = np.array([int(each.scores.argmax()) for *_, each in members])
    for stray in np.flatnonzero(sides != own).tolist():
        side, number, _ = members[stray]
        row, goal, settled = rows[side], pair[1 - side], np.flatnonzero((sides == own) & (own != side))
        place = _free_place(points[settled] - points[stray], places[settled], len(goal.labels))
        layers[layer][row.box][row.ids == number + 1] = labels.table[goal.labels[place]].value
        strays.labels[goal.name] = (*strays.labels.get(goal.name, ()), pair[side].labels[places[stray]])
        strays.instances |= {row.instances[number]} if row.instances else set()
    return replace(labels, layers=layers)


def _free_place(steps: NDArray[np.float64], places: NDArray[np.int64], count: int) -> int:
    """The place in a row of `count` that no object has, nearest to those of the two objects beside; theirs if none is free.

    Args:
        steps: ``(n, axes)`` to the objects of the row.
        places: ``(n,)`` their places.
        count: places of the row.
    """
    beside = float(places[np.argsort(np.linalg.norm(steps, axis=1), kind="stable")[:2]].mean())
    free = np.setdiff1d(np.arange(count), places)
    candidates = free if len(free) else places
    return int(candidates[np.abs(candidates - beside).argmin()])


def sides_of(points: NDArray[np.float64], own: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The row on whose side each object lies.

    Args:
        points: ``(n, axes)`` centroids.
        own: ``(n,)`` 0 or 1, the row of each one's label.

    Returns:
        ``(n,)`` 0 or 1; None where the rows do not lie apart, or too many objects would change.
    """
    sides = own
    for _ in range(_ROUNDS):
        if min(np.count_nonzero(sides == side) for side in (0, 1)) < FEWEST:
            return None
        means = np.stack([points[sides == side].mean(axis=0) for side in (0, 1)])
        around = points - means[sides]
        scatter = around.T @ around / len(points)
        scatter += np.eye(len(scatter)) * (1e-6 * np.trace(scatter) + np.finfo(np.float64).tiny)
        normal = np.linalg.solve(scatter, means[1] - means[0])
        squared = float((means[1] - means[0]) @ normal)
        depths = (points - means.mean(axis=0)) @ normal / squared
        before, sides = sides, (depths > 0).astype(np.int64)
        if np.array_equal(before, sides):
            is_clear = squared >= APART**2 and np.count_nonzero(sides != own) <= MOST_STRAYED * len(own)
            return np.where(np.abs(depths) < BEYOND, own, sides) if is_clear else None
    return None
