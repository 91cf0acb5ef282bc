"""Names the objects of every row of labels (vertebrae, discs, ribs, teeth) in a prediction, and rewrites their labels.

Nothing is lost silently: `naming_flags` says what was changed, left out or is uncertain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from voxelry.core.label_sequence import LabelSequence
from voxelry.core.volume import LabelMap
from voxelry.inference.named_row import NamedObject, NamedRow
from voxelry.inference.row_objects import RowObjects, find_row
from voxelry.inference.row_sides import sort_into_rows
from voxelry.inference.sequence_costs import JUNK, MERGED_ACROSS, OrderedObject, label_shares
from voxelry.inference.sequence_naming import CERTAIN, Naming, name_objects

NAMING_BYTES = 12
"""Of a voxel while objects are named: its labels before and after, its place in the row, its object and its component."""

MOST_OBJECTS = 64
"""Largest number of objects of a row that are named by their place; smaller ones follow the objects beside them."""

BODY = 0.25
"""Share of the usual volume from which an uncertain name matters."""


def name_rows(
    labels: LabelMap, sequences: Sequence[LabelSequence], scores: Mapping[int, Mapping[str, float]] | None = None
) -> tuple[LabelMap, tuple[NamedRow, ...]]:
    """Name the objects of every row by the most likely consistent sequence.

    An object on the side of another row that lies apart from its own is named in that row (`row_sides`).

    Args:
        labels: a prediction, with or without instances.
        sequences: rows of its labels, each on one layer.
        scores: id of an instance -> label -> its mean probability; instances without an entry, and parts of a map without
            instances, are judged by the labels of their voxels.

    Returns:
        The map with the names' labels, and the rows that it holds. Objects without a place in their row become background.

    Raises:
        LabelError: the map's table lacks a label of a row.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, LabelMap, LabelSequence, LabelTable
        >>> table = LabelTable.numbered([1, 2, 3])
        >>> array = np.zeros((5, 5, 15), np.uint8)
        >>> array[1:4, 1:4, 1:4], array[1:4, 1:4, 6:9], array[1:4, 1:4, 11:14] = 1, 1, 3
        >>> labels = LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 1)), table)
        >>> named, rows = name_rows(labels, [LabelSequence(name="row", labels=table.names)])
        >>> named.array[2, 2, [2, 7, 12]].tolist(), rows[0].names
        ([1, 2, 3], ('label_1', 'label_2', 'label_3'))
    """
    rows = []
    labels, strays = sort_into_rows(labels, sequences)
    scores = {id: own for id, own in (scores or {}).items() if id not in strays.instances}
    for sequence in sequences:
        found_objects = find_row(labels, sequence)
        if found_objects is not None:
            labels, row = _name_row(labels, sequence, found_objects, scores)
            rows.append(replace(row, strayed=strays.labels.get(sequence.name, ())))
    return labels, tuple(rows)


def with_filled_ids(labels: LabelMap, rows: Sequence[NamedRow]) -> LabelMap:
    """The map with an id for every voxel of a named object; holes that were filled after naming have none.

    Args:
        labels: with instances.
        rows: its rows.
    """
    if labels.instances is None:
        return labels
    instances = labels.instances.copy(order="K")
    named = {str(each.name): each.instance for row in rows for each in row.objects if each.name is not None}
    for name, id in named.items():
        label = labels.table[name]
        filled = (labels.layers[label.layer] == label.value) & (instances[label.layer] == 0)
        instances[label.layer][filled] = id
    return replace(labels, instances=instances)


def _name_row(
    labels: LabelMap, sequence: LabelSequence, row: RowObjects, scores: Mapping[int, Mapping[str, float]]
) -> tuple[LabelMap, NamedRow]:
    objects = row.ordered(sequence, scores)
    large = _large(objects, sequence)
    naming = name_objects([objects[number] for number in large], sequence)
    leaders = _leaders(objects, large, naming)
    names = dict(zip(large, naming.names, strict=True))
    given = [names.get(leader) for leader in leaders]
    small = [given[number] for number in range(len(objects)) if number not in names]
    named, renamed = _rewritten(labels, sequence, row, given, leaders)
    dropped = small.count(None)
    ids = [row.instances[number] if row.instances else 0 for number in large]
    bodies = [place for place, number in enumerate(large) if objects[number].volume >= BODY * _usual_volume(objects, sequence)]
    return named, NamedRow(
        sequence=sequence,
        objects=_named_objects([objects[number] for number in large], naming, ids),
        choices=naming.choices,
        is_certain=naming.margin(bodies) >= CERTAIN,
        renamed=renamed,
        debris=(len(small) - dropped, dropped),
    )


def _usual_volume(objects: Sequence[OrderedObject], sequence: LabelSequence) -> float:
    """The volume of an object of the row: that of training, or else the median of those that are no debris."""
    known = [spread.mean for spread in sequence.volumes if spread is not None]
    volumes = np.array([each.volume for each in objects])
    return float(np.median(known or volumes[volumes >= JUNK * volumes.max()]))


def _large(objects: Sequence[OrderedObject], sequence: LabelSequence) -> list[int]:
    """Numbers of the objects that are named by their place, in order; at least the largest."""
    volumes = np.array([each.volume for each in objects])
    limit = min(float(volumes.max()), JUNK * _usual_volume(objects, sequence))
    largest = np.argsort(-volumes, kind="stable")[:MOST_OBJECTS]
    return sorted(int(number) for number in largest if volumes[number] >= limit)


def _leaders(objects: Sequence[OrderedObject], large: Sequence[int], naming: Naming) -> list[int]:
    """For each object the one whose name and id it takes: of pieces the largest, of a small part the nearest; -1 for none.

    A small part follows the nearest object of the label it was predicted as, or else one closer than the pieces of an object.
    """
    leaders = [-1] * len(objects)
    for name in dict.fromkeys(naming.names):
        pieces = [number for number, own in zip(large, naming.names, strict=True) if own == name]
        for number in pieces:
            leaders[number] = number if name is None else max(pieces, key=lambda piece: objects[piece].volume)
    steps = np.linalg.norm(np.diff([objects[large[place]].centroid for place in naming.order], axis=0), axis=-1)
    known = [spread.mean for spread in naming.sequence.distances if spread is not None]
    closest = MERGED_ACROSS * float(np.mean(known or steps if len(steps) else np.inf))
    for number in set(range(len(objects))) - set(large):
        own = int(objects[number].scores.argmax())
        distance = {other: float(np.linalg.norm(objects[other].centroid - objects[number].centroid)) for other in large}
        alike = [other for other in large if int(objects[other].scores.argmax()) == own]
        others = alike or [other for other in large if distance[other] < closest]
        near = min(others, key=lambda other: distance[other], default=-1)
        leaders[number] = leaders[near] if near >= 0 else -1
    return leaders


def _rewritten(
    labels: LabelMap, sequence: LabelSequence, row: RowObjects, given: Sequence[str | None], leaders: Sequence[int]
) -> tuple[LabelMap, float]:
    """The map with new labels and ids, and the share of the objects' voxels whose label changed."""
    number = labels.table[sequence.labels[0]].layer
    values = [0 if name is None else labels.table[name].value for name in given]
    layers = labels.layers.copy(order="K")
    block, inside = layers[number][row.box], row.ids > 0
    new = np.array([0, *values], dtype=layers.dtype)[row.ids[inside]]
    renamed = float(np.mean((block[inside] != new) & (new > 0)))
    block[inside] = new
    if labels.instances is None or not row.instances:
        return replace(labels, layers=layers), renamed
    instances = labels.instances.copy(order="K")
    ids = [0 if name is None else row.instances[leader] for name, leader in zip(given, leaders, strict=True)]
    instances[number][row.box][inside] = np.array([0, *ids], dtype=np.uint32)[row.ids[inside]]
    return replace(labels, layers=layers, instances=instances), renamed


def _named_objects(objects: Sequence[OrderedObject], naming: Naming, instances: Sequence[int]) -> tuple[NamedObject, ...]:
    """The objects along the row, pieces of one together."""
    groups: list[list[int]] = []
    for place in naming.order:
        is_piece = bool(groups) and naming.names[place] is not None and naming.names[place] == naming.names[groups[-1][0]]
        groups[-1:] = [[*groups[-1], place]] if is_piece else [*groups[-1:], [place]]
    return tuple(_named_object(objects, naming, instances, group) for group in groups)


def _named_object(objects: Sequence[OrderedObject], naming: Naming, instances: Sequence[int], group: list[int]) -> NamedObject:
    volumes = np.array([objects[place].volume for place in group])
    weights = volumes / volumes.sum()
    shares = weights @ np.array([label_shares(objects[place].scores) for place in group])
    leader = group[int(volumes.argmax())]
    name = naming.names[leader]
    labels = naming.sequence.labels
    return NamedObject(
        name=name,
        predicted=labels[int(shares.argmax())],
        share=0.0 if name is None else float(shares[labels.index(name)]),
        centroid=tuple(map(float, weights @ np.array([objects[place].centroid for place in group]))),
        volume=float(volumes.sum()),
        instance=0 if name is None else instances[leader],
        pieces=len(group),
        alternatives={other: math.exp(-cost) for other, cost in naming.alternatives(leader).items()},
    )
