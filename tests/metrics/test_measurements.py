import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError, LabelError
from voxelry.metrics.diameters import diameters
from voxelry.metrics.measurements import measure_labels

SHAPE = (9, 8, 6)
SPACING = (0.7, 0.9, 2.5)
TABLE = LabelTable(
    labels=(
        Label(value=5, name="organ"),
        Label(value=2, name="lesion", kind="thing"),
        Label(value=9, name="absent"),
        Label(value=1, name="over", layer=1),
    )
)


def made(seed=0, instances=True):
    rng = np.random.default_rng(seed)
    layers = np.zeros((2, *SHAPE), np.uint16)
    layers[0] = rng.choice(np.array([0, 2, 5], np.uint16), SHAPE)
    layers[1] = rng.choice(np.array([0, 1], np.uint16), SHAPE)
    ids = np.where(layers == 2, rng.choice(np.array([0, 4, 2**31], np.uint32), layers.shape), 0) if instances else None
    geometry = Geometry.from_spacing(SHAPE, SPACING)
    return LabelMap(layers, geometry, TABLE, instances=ids), Volume(rng.normal(40, 9, (1, *SHAPE)).astype(np.float32), geometry)


@given(st.integers(0, 30), st.booleans())
def test_rows_by_brute_force(seed, instances):
    labels, volume = made(seed, instances)
    rows = measure_labels(labels, volume)
    expected = []
    for label in TABLE.labels:
        mask = labels.layers[label.layer] == label.value
        if instances and label.kind == "thing":
            expected += [(label, int(i), mask & (labels.instances[0] == i)) for i in np.unique(labels.instances[0][mask])]
        else:
            expected.append((label, 0, mask))
    assert [(row.label, row.instance) for row in rows] == [(label, i) for label, i, _ in expected]
    for row, (_, _, mask) in zip(rows, expected, strict=True):
        assert row.voxels == mask.sum()
        assert_allclose(row.volume_mm3, mask.sum() * np.prod(SPACING))
        whole = diameters(mask, SPACING[:2])
        if not mask.any():
            assert row.axes is None
            assert row.intensity is None
            continue
        assert_allclose((row.axes.long_mm, row.axes.short_mm), (whole.long_mm, whole.short_mm))
        assert row.axes.slice == whole.slice
        assert_allclose(row.axes.ends, whole.ends)
        values = volume.array[0][mask].astype(float)
        seen = (row.intensity.mean, row.intensity.sd, row.intensity.minimum, row.intensity.maximum)
        assert_allclose(seen, (values.mean(), values.std(ddof=0), values.min(), values.max()))


def test_a_ball_has_the_volume_and_diameters_of_a_ball():
    radius, step = 20.0, 1.0
    at = (np.indices((45, 45, 45)) - 22) * step
    ball = (np.sqrt((at**2).sum(axis=0)) <= radius).astype(np.uint8)
    labels = LabelMap.of(ball, Geometry.from_spacing(ball.shape, (step,) * 3), LabelTable.numbered([1]))
    (row,) = measure_labels(labels)
    assert row.volume_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)
    assert (row.axes.long_mm, row.axes.short_mm) == (pytest.approx(41, abs=0.1), pytest.approx(41, abs=0.1))
    assert row.axes.slice == 22


def test_a_sheared_grid_keeps_its_volume():
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 0.5
    labels = LabelMap.of(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), affine), LabelTable.numbered([1]))
    assert measure_labels(labels)[0].volume_mm3 == pytest.approx(16)


def test_pictures_have_an_area_where_their_pixels_have_a_size():
    array = np.zeros((6, 7), np.uint8)
    array[1:3, 2:6] = 1
    table = LabelTable.numbered([1])
    (row,) = measure_labels(LabelMap.of(array, Geometry((6, 7), None, (0.5, 0.25)), table))
    assert (row.volume_mm3, row.area_mm2) == (None, pytest.approx(1.0))
    assert row.axes.long_mm == pytest.approx(np.hypot(1.0, 0.75))
    (row,) = measure_labels(LabelMap.of(array, Geometry((6, 7)), table))
    assert (row.voxels, row.area_mm2, row.axes) == (8, None, None)


def test_memory_is_bounded_by_the_labels_not_by_labels_times_scan():
    shape = (160, 160, 60)
    array = np.zeros(shape, np.uint8)
    for value in range(1, 61):
        array[value : value + 3, 5:8, value - 1] = value
    labels = LabelMap.of(array, Geometry.from_spacing(shape, (1, 1, 1)), LabelTable.numbered(range(1, 61)))
    tracemalloc.start()
    rows = measure_labels(labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 60
    assert peak < array.nbytes * 1.5


def test_what_cannot_be_measured():
    labels, volume = made()
    with pytest.raises(GridMismatchError, match="different grids"):
        measure_labels(labels, replace(volume, geometry=Geometry.from_spacing(SHAPE, (1, 1, 1))))
    strange = replace(labels, layers=labels.layers + 40)
    with pytest.raises(LabelError):
        measure_labels(strange)
