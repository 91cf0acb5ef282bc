"""Sizes and contacts of objects, by brute force and in closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.metrics.object_sizes import ball_diameters, object_sizes, summarise

TABLE = LabelTable(
    labels=(
        Label(value=1, name="cell", kind="thing"),
        Label(value=2, name="vessel"),
        Label(value=1, name="spot", kind="thing", layer=1),
    )
)
ids_of_layers = arrays(np.uint32, (2, 5, 6), elements=st.sampled_from([0, 0, 1, 2, 3]))


def objects(ids, size=None) -> LabelMap:
    ids = np.array(ids, np.uint32)
    geometry = Geometry(ids.shape[1:], None, size) if ids.ndim == 3 else Geometry.from_spacing(ids.shape[1:], (1, 2, 4))
    return LabelMap((ids > 0).astype(np.uint8), geometry, TABLE, instances=ids)


@given(ids_of_layers)
def test_contacts_are_those_of_dilated_masks(ids):
    ids[1] += np.where(ids[1] > 0, np.uint32(3), np.uint32(0))
    found = object_sizes(objects(ids))
    for layer, name in enumerate(("cell", "spot")):
        assert found[name].ids.tolist() == [id for id in np.unique(ids[layer]) if id]
        for id, touching, diameter in zip(found[name].ids, found[name].touching, found[name].diameters, strict=True):
            near = binary_dilation(ids[layer] == id, np.ones((3, 3)))
            others = set(ids[layer][near]) | set(ids[1 - layer][ids[layer] == id])
            assert touching == bool(others - {0, id})
            assert diameter == pytest.approx(2 * math.sqrt((ids[layer] == id).sum() / math.pi))


def test_a_diameter_is_that_of_the_ball_of_the_volume():
    assert ball_diameters(4 / 3 * math.pi * 27, 3) == pytest.approx(6)
    assert ball_diameters(math.pi * 9, 2) == pytest.approx(6)
    ids = np.zeros((2, 4, 4, 4), np.uint32)
    ids[0, :2] = 5
    sizes = object_sizes(objects(ids))["cell"]
    assert sizes.is_in_mm
    assert sizes.diameters[0] == pytest.approx(ball_diameters(32 * 8.0, 3))


def test_cases_are_summarised():
    two, none = objects([[[1, 1, 0, 2, 0, 1]], [[0] * 6]]), objects(np.zeros((2, 1, 6)))
    statistics = summarise([object_sizes(two), object_sizes(none)], "cell")
    assert (statistics.total, statistics.per_case, statistics.in_parts, statistics.touching) == (2, (0, 1.0, 2), 1, 0)
    assert statistics.unit == "pixels"
    assert summarise([object_sizes(none)]).diameter is None
    assert summarise([]).total == 0
    assert object_sizes(LabelMap(two.layers, two.geometry, TABLE)) == {}
    assert summarise([object_sizes(objects(two.instances, (0.5, 0.5)))]).unit == "mm"
