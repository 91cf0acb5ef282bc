"""Objects that lie in another row than their label says."""

from dataclasses import replace

import numpy as np
import pytest

from voxelry.core.geometry import Geometry
from voxelry.core.label_sequence import LabelSequence
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.inference.naming_flags import row_flags
from voxelry.inference.row_objects import instance_votes
from voxelry.inference.row_sides import sides_of, sort_into_rows
from voxelry.inference.sequence_repair import name_rows

UPPER = tuple(f"u{place}" for place in range(8))
LOWER = tuple(f"l{place}" for place in range(8))
TABLE = LabelTable(labels=tuple(Label(value=n, name=name, kind="thing") for n, name in enumerate((*UPPER, *LOWER), start=1)))
ROWS = (LabelSequence(name="upper", labels=UPPER), LabelSequence(name="lower", labels=LOWER))


def jaws(ids=True):
    """Eight teeth above eight others, along a smile."""
    array = np.zeros((60, 100), np.uint8)
    for place in range(8):
        rise = (place - 4) ** 2 // 3
        array[16 - rise : 28 - rise, 4 + 12 * place : 12 + 12 * place] = 1 + place
        array[32 - rise : 44 - rise, 5 + 12 * place : 13 + 12 * place] = 9 + place
    instances = np.where(array > 0, 100 - array.astype(np.uint32), 0).astype(np.uint32)
    return LabelMap(array[None], Geometry(array.shape), TABLE, instances=instances[None] if ids else None)


def called(labels, **names):
    """The map with objects called by other names."""
    layers = labels.layers.copy()
    for name, other in names.items():
        layers[labels.layers == TABLE[name].value] = TABLE[other].value
    return replace(labels, layers=layers)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("wrong", [{"u3": "l3"}, {"u0": "l6", "l5": "u2"}, {"l7": "u7", "l0": "u4", "u5": "l1"}])
def test_a_tooth_called_as_one_of_the_other_jaw_is_named_by_its_place(wrong, ids):
    truth = jaws(ids)
    labels = called(truth, **wrong)
    scores = instance_votes(labels, ROWS) if ids else None
    named, rows = name_rows(labels, ROWS, scores)
    assert np.array_equal(named.layers, truth.layers)
    if ids:
        assert np.array_equal(named.instances, truth.instances)
    strayed = {name for row in rows for name in row.strayed}
    assert strayed == set(wrong.values())
    assert any("had labels of another row" in flag for row in rows for flag in row_flags(row))


def test_right_names_and_rows_that_do_not_lie_apart_stay():
    truth = jaws()
    assert sort_into_rows(truth, ROWS)[0] is truth
    mixed = (
        LabelSequence(name="even", labels=(*UPPER[::2], *LOWER[::2])),
        LabelSequence(name="odd", labels=(*UPPER[1::2], *LOWER[1::2])),
    )
    labels, strays = sort_into_rows(truth, mixed)
    assert labels is truth
    assert (strays.labels, strays.instances) == ({}, set())
    few = called(truth, **dict.fromkeys(UPPER[3:], "u2"))
    assert sort_into_rows(replace(few, instances=None), ROWS[:1])[0].layers is few.layers


@pytest.mark.parametrize("turn", range(5))
def test_sides_do_not_depend_on_direction_or_order(turn):
    rng = np.random.default_rng(turn)
    points = np.concatenate([rng.normal((0, 0, 0), (30, 8, 2), (12, 3)), rng.normal((5, 0, 22), (30, 8, 2), (15, 3))])
    truth = np.repeat([0, 1], [12, 15])
    own = truth.copy()
    own[rng.choice(27, 3, replace=False)] ^= 1
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(27)
    assert np.array_equal(sides_of((points @ rotation.T + 100)[order], own[order]), truth[order])
    assert sides_of(points[:14], truth[:14]) is None  # two objects show no side
    for nearer in (18, 20, 22):  # not apart
        sides = sides_of(points - np.outer(truth, (0, 0, nearer)), truth)
        assert sides is None or np.array_equal(sides, truth)
    assert sides_of(points, np.where(np.arange(27) % 2, truth, 1 - truth)) is None  # half of them on the other side
