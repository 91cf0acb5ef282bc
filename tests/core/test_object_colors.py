"""Colours of objects: neighbours differ, the same map gets the same colours, nothing is painted that was not labelled."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.object_colors import with_object_colors
from voxelry.core.volume import LabelMap

TABLE = LabelTable(labels=(Label(value=4, name="wall"), Label(value=9, name="cell", kind="thing")), ignore=200)


def random_map(seed, ndim):
    rng = np.random.default_rng(seed)
    shape = (6, 7, 4)[:ndim]
    layers = rng.choice(np.array([0, 4, 9, 9, 9, 200], np.uint8), (1, *shape))
    ids = np.where(layers == 9, rng.integers(0, 12, layers.shape), 0).astype(np.uint32)
    grid = Geometry(shape) if ndim == 2 else Geometry.from_spacing(shape, (1, 1, 1))
    return LabelMap(layers, grid, TABLE, instances=ids)


def rgb_of(labels):
    colors = np.zeros((*labels.geometry.shape, 3), int)
    for label in labels.table.labels:
        colors[labels.mask(label.name)] = label.rgb
    return colors


@given(st.integers(0, 2**32 - 1), st.integers(2, 3))
@settings(max_examples=40, deadline=None)
def test_neighbours_differ(seed, ndim):
    labels = random_map(seed, ndim)
    colored = with_object_colors(labels)
    colors, ids = rgb_of(colored), labels.instances[0]
    assert colored.instances is None
    np.testing.assert_array_equal(colored.layers[0] > 0, (labels.layers[0] > 0) & (labels.layers[0] < 200))
    assert (colors[labels.layers[0] == 4] == TABLE["wall"].rgb).all()
    assert (colors[(labels.layers[0] == 9) & (ids == 0)] == TABLE["cell"].rgb).all()
    for place in np.argwhere(ids > 0):
        for step in product((-1, 0, 1), repeat=ndim):
            other = tuple(place + step)
            if all(0 <= i < n for i, n in zip(other, ids.shape, strict=True)) and ids[other] not in (0, ids[tuple(place)]):
                assert tuple(colors[other]) != tuple(colors[tuple(place)])
    for id in np.unique(ids[ids > 0]):
        assert len({tuple(color) for color in colors[ids == id]}) == 1
    again = with_object_colors(replace(labels, instances=labels.instances.copy()))
    np.testing.assert_array_equal(rgb_of(again), colors)


@pytest.mark.parametrize("count", [1, 40])
def test_more_neighbours_than_the_palette_has(count):
    """A clique: each object shares corners with each other one, on layers of single voxels of a long row of pairs."""
    pairs = [(a, b) for a in range(1, count + 1) for b in range(1, a)]
    row = np.array([[id for pair in pairs for id in (*pair, 0)] or [1]], np.uint32)
    labels = LabelMap((row > 0).astype(np.uint8)[None] * 9, Geometry(row.shape), TABLE, instances=row[None])
    colors = rgb_of(with_object_colors(labels))
    assert len({tuple(color) for color in colors[row > 0]}) == count


def test_a_map_without_ids_is_returned_as_it_is():
    labels = replace(random_map(0, 2), instances=None)
    assert with_object_colors(labels) is labels
