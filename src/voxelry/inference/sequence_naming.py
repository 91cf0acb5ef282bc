"""Names the objects of a row (vertebrae, discs, teeth) by the consistent sequence of lowest cost, by dynamic programming.

A sequence gives each object a label of the row or none, each label at most once, in the order of the row from one end or the
other; pieces of one object may share a label. `sequence_costs` says what each choice costs. The search is exact: it keeps the
best few sequences that end in each object and label (list Viterbi: Seshadri and Sundberg 1994, doi:10.1109/26.277844).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelry.core.label_sequence import LabelSequence
from voxelry.inference.chain_order import chain_order
from voxelry.inference.sequence_costs import REVERSED, OrderedObject, SequenceCosts, Values

ALTERNATIVES = 8
"""Consistent sequences that are kept."""

CERTAIN = math.log(20)
"""Difference in cost from which the best sequence counts as certain: it is 20 times as likely as the next."""


@dataclass(frozen=True)
class ConsistentSequence:
    """One way to name all objects.

    Attributes:
        cost: negative log likelihood, but for a constant.
        names: of each object; None for one that has no place in the row.
        is_reversed: the objects run against the direction of training.
    """

    cost: float
    names: tuple[str | None, ...]
    is_reversed: bool = False


@dataclass(frozen=True)
class Naming:
    """The names of the objects of a row.

    Attributes:
        sequence: the labels.
        choices: the most likely consistent sequences, the best first.
        order: the objects' numbers along the row, in the direction of the best sequence.
    """

    sequence: LabelSequence
    choices: tuple[ConsistentSequence, ...]
    order: tuple[int, ...]

    @property
    def names(self) -> tuple[str | None, ...]:
        """The name of each object; None for one that has no place in the row. Pieces of one object share a name."""
        return self.choices[0].names

    def margin(self, numbers: Sequence[int]) -> float:
        """The cost of the best sequence that names some of these objects otherwise, above that of the best; infinite for none."""
        costs = (choice.cost for choice in self.choices if any(choice.names[i] != self.names[i] for i in numbers))
        return next(costs, math.inf) - self.choices[0].cost

    def alternatives(self, number: int) -> dict[str | None, float]:
        """Other names of an object in the sequences that were kept, each with its least cost above the best sequence's."""
        others: dict[str | None, float] = {}
        for choice in self.choices:
            if choice.names[number] != self.names[number]:
                others.setdefault(choice.names[number], choice.cost - self.choices[0].cost)
        return others


def name_objects(objects: Sequence[OrderedObject], sequence: LabelSequence, alternatives: int = ALTERNATIVES) -> Naming:
    """Name objects by the most likely consistent sequence.

    Args:
        objects: in any order.
        sequence: the labels; what training showed of them, where it is known.
        alternatives: sequences to keep.

    Example:
        >>> import numpy as np
        >>> from voxelry.core.label_sequence import LabelSequence
        >>> row = LabelSequence(name="row", labels=("a", "b", "c"))
        >>> scores = [(0.9, 0.1, 0), (0.8, 0.2, 0), (0, 0, 1)]
        >>> objects = [OrderedObject(np.array(s), np.array([10.0 * i, 0, 0]), 100.0) for i, s in enumerate(scores)]
        >>> name_objects(objects, row).names
        ('a', 'b', 'c')
    """
    if not objects:
        return Naming(sequence, (ConsistentSequence(0.0, ()),), ())
    order = chain_order(np.array([each.centroid for each in objects]))
    ways = [order, order[::-1]] if len(objects) > 1 else [order]
    choices: dict[tuple[str | None, ...], tuple[ConsistentSequence, tuple[int, ...]]] = {}
    for way in ways:
        costs = SequenceCosts([objects[number] for number in way], sequence)
        is_reversed = costs.direction > REVERSED / 2
        for cost, along in _best(costs, alternatives):
            names: list[str | None] = [None] * len(objects)
            for number, name in zip(way, along, strict=True):
                names[number] = name
            choice = ConsistentSequence(cost, tuple(names), is_reversed)
            if choice.names not in choices or cost < choices[choice.names][0].cost:
                choices[choice.names] = (choice, tuple(way))
    ranked = sorted(choices.values(), key=lambda pair: pair[0].cost)[:alternatives]
    return Naming(sequence, tuple(choice for choice, _ in ranked), ranked[0][1])


_Along = tuple[float, tuple[str | None, ...]]
"""A cost and the names of objects along a row."""


def _best(costs: SequenceCosts, count: int) -> list[_Along]:
    """The sequences of lowest cost in the objects' own direction."""
    elements, labels = costs.elements, len(costs.sequence.labels)
    rejected = np.concatenate([[0.0], np.cumsum(costs.rejected)])
    absent = np.concatenate([[0.0], np.cumsum(costs.absent)])
    best = np.full((len(elements), labels, count), np.inf)  # of sequences that end with an element of a label
    origin = np.full((len(elements), labels, count), -1)  # flat index in `best`; -1 where nothing comes before
    for number, element in enumerate(elements):
        options = [(rejected[element.first] + absent[:-1])[None]]
        sources = [np.array([-1])]
        for before in range(number):
            gap = rejected[element.first] - rejected[elements[before].last + 1]
            if elements[before].last < element.first:
                distance = float(np.linalg.norm(element.centroid - elements[before].centroid))
                steps = best[before][:, :, None] + costs.transitions(distance)[:, None, :] + gap
                options.append(steps.reshape(-1, labels))
                sources.append(before * labels * count + np.arange(labels * count))
        values, indices = np.concatenate(options), np.concatenate(sources)
        kept = _lowest(values, count).T
        best[number, :, : kept.shape[1]] = np.take_along_axis(values.T, kept, axis=1) + element.costs[:, None]
        origin[number, :, : kept.shape[1]] = indices[kept]
    last = np.array([element.last for element in elements])
    ends = best + (rejected[-1] - rejected[last + 1])[:, None, None] + (absent[-1] - absent[1:])[None, :, None]
    flat = ends.ravel()
    lowest = [int(i) for i in np.argsort(flat, kind="stable")[:count] if np.isfinite(flat[i])]
    ranked = [(float(flat[i]), _traced(i, origin, costs)) for i in lowest]
    nothing = (float(rejected[-1] + absent[-1]), (None,) * len(costs.objects))
    return [(cost + costs.direction, names) for cost, names in sorted([*ranked, nothing], key=lambda pair: pair[0])[:count]]


def _lowest(values: Values, count: int) -> NDArray[np.int64]:
    """``(count or fewer, m)``: of each column the numbers of its lowest values, the lowest first."""
    if len(values) <= count:
        return np.argsort(values, axis=0, kind="stable")
    lowest = np.argpartition(values, count, axis=0)[:count]
    return np.take_along_axis(lowest, np.argsort(np.take_along_axis(values, lowest, axis=0), axis=0), axis=0)


def _traced(end: int, origin: NDArray[np.int64], costs: SequenceCosts) -> tuple[str | None, ...]:
    """The names along the row of a sequence, from its last element back to its first."""
    names: list[str | None] = [None] * len(costs.objects)
    elements = costs.elements
    while end >= 0:
        number, label, _ = np.unravel_index(end, origin.shape)
        element = elements[int(number)]
        names[element.first : element.last + 1] = [costs.sequence.labels[int(label)]] * (element.last + 1 - element.first)
        end = int(origin.ravel()[end])
    return tuple(names)
