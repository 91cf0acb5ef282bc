from functools import partial

import numpy as np
import pytest

from helpers.plans import SIDED, picture
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ManifestError
from voxelry.planning import fingerprint as module
from voxelry.planning.fingerprint import make_fingerprint


def case(array, labels=None, table=SIDED, spacing=(1.0, 2.0, 3.0), order=(0, 1, 2)):
    """A volume whose stored axes are the RAS axes in `order`, and its labels."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[:, list(order)]
    volume = Volume(array[None], Geometry(array.shape, affine))
    return lambda: (volume, None if labels is None else LabelMap.of(labels, volume.geometry, table))


def test_grey_values_of_labelled_voxels_alone():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    labels = np.zeros(array.shape, np.uint8)
    labels[0, 0, :2], labels[1, 2, 3] = 3, 9
    seen = make_fingerprint([case(array, labels)], ("T1",), "MR", SIDED)
    values = np.array([0.0, 1.0, 23.0])
    (statistics,) = seen.statistics
    assert statistics.mean == pytest.approx(values.mean())
    assert statistics.std == pytest.approx(values.std())
    assert (statistics.p005, statistics.p995) == pytest.approx(tuple(np.percentile(values, (0.5, 99.5))))
    assert seen.label_voxels == {"left kidney": 2, "right kidney": 0, "spine": 1}
    assert seen.voxels == 24


def test_ignored_voxels_are_not_labelled_voxels():
    table = LabelTable(labels=(Label(value=1, name="lung"),), ignore=255)
    array = np.array([[[5, 1000, 7]]], dtype=np.int16)
    labels = np.array([[[1, 255, 1]]], dtype=np.uint8)
    seen = make_fingerprint([case(array, labels, table)], ("T1",), "MR", table)
    assert seen.statistics[0].mean == 6
    assert seen.label_voxels == {"lung": 2}


def test_all_voxels_where_nothing_is_labelled():
    array = np.array([[[1, 3]]], dtype=np.int16)
    assert make_fingerprint([case(array)], ("T1",), "MR", SIDED).statistics[0].mean == 2
    assert make_fingerprint([case(array, np.zeros(array.shape, np.uint8))], ("T1",), "MR", SIDED).statistics[0].mean == 2


def test_shapes_and_spacings_are_told_along_ras_axes():
    loads = [
        case(np.ones((4, 6, 8))),
        case(np.ones((12, 8, 10)), order=(2, 0, 1), spacing=(1.0, 2.0, 5.0)),
        case(np.ones((6, 7, 9))),
    ]
    told = []
    seen = make_fingerprint(loads, ("T1",), "CT", SIDED, lambda *call: told.append(call))
    assert seen.shapes == ((4, 6, 8), (6, 7, 9), (8, 10, 12))
    assert seen.spacing == (1, 2, 3)
    assert seen.spacing_range == ((1, 2, 3), (1, 2, 5))
    assert seen.orientations == {"RAS": 2, "SRA": 1}
    assert (seen.cases, seen.dimensions, seen.modality) == (3, 3, "CT")
    assert told == [("looking at cases", number, 3) for number in (1, 2, 3)]


def test_the_share_of_the_content_is_that_of_the_median_case():
    def framed(inner):
        array = np.zeros((10, 10, 10), np.int16)
        array[:inner, :5] = 7
        return case(array)

    assert make_fingerprint([framed(2), framed(4), framed(10)], ("T1",), "MR", SIDED).content == 0.2


def test_large_cases_are_sampled_the_same_each_time(monkeypatch):
    monkeypatch.setattr(module, "SAMPLES_PER_CASE", 50)
    array = np.random.default_rng(0).normal(100, 10, (10, 10, 10)).astype(np.float32)
    first, second = (make_fingerprint([case(array)], ("T1",), "MR", SIDED).statistics for _ in range(2))
    assert first == second
    assert first[0].mean == pytest.approx(100, abs=6)
    assert first[0].mean != pytest.approx(float(array.mean()), abs=1e-6)


def test_pictures_of_unknown_size_have_no_spacing():
    known, unknown = picture(np.ones((1, 4, 6)), (0.5, 0.5)), picture(np.ones((1, 4, 6)))
    seen = make_fingerprint([lambda: (known, None), lambda: (unknown, None)], ("X",), "CR", SIDED)
    assert (seen.dimensions, seen.spacing, seen.spacing_range) == (2, None, None)
    assert seen.orientations == {"picture": 2}


def test_no_cases_and_mixed_cases_are_refused():
    with pytest.raises(ManifestError, match=r"no cases to train on"):
        make_fingerprint([], ("T1",), "MR", SIDED)
    flat = picture(np.ones((1, 4, 6)))
    with pytest.raises(ManifestError, match=r"pictures .2D. and volumes .3D."):
        make_fingerprint([case(np.ones((2, 2, 2))), partial(lambda value: (value, None), flat)], ("T1",), "MR", SIDED)


def test_what_lies_outside_the_content_is_not_counted():
    """Boxes of (2, 5, 10), (4, 6, 10) and (10, 5, 10) voxels of 1 x 2 x 3, 1 x 2 x 3 and 2 x 2 x 6 mm."""

    def framed(size, wide, **kinds):
        array = np.zeros((10, 10, 10), np.int16)
        array[:size, 3 : 3 + wide] = 7
        return case(array, **kinds)

    loads = [framed(2, 5), framed(4, 6), framed(10, 5, spacing=(2.0, 2.0, 6.0))]
    seen = make_fingerprint(loads, ("T1",), "MR", SIDED)
    assert seen.shapes[1] == (10, 10, 10)
    assert seen.content_shape == (4, 5, 10)
    assert seen.content_extent == ((4, 10, 30), (4, 10, 30))
    even = make_fingerprint(loads[:2], ("T1",), "MR", SIDED)
    assert (even.content_shape, even.content_extent) == ((3, 5.5, 10), ((2, 10, 30), (4, 12, 30)))
    turned = make_fingerprint([framed(2, 5, order=(2, 0, 1))], ("T1",), "MR", SIDED)
    assert turned.content_shape == (5, 10, 2)


def test_the_tenth_percentile_of_the_spacing():
    loads = [case(np.ones((2, 2, 2)), spacing=(1.0, 1.0, float(size))) for size in range(1, 12)]
    assert make_fingerprint(loads, ("T1",), "MR", SIDED).spacing_fine == (1, 1, 2)


def test_samples_of_many_cases_are_bounded_together(monkeypatch):
    drawn, statistics = [], module._statistics
    monkeypatch.setattr(module, "SAMPLES", 100)
    monkeypatch.setattr(module, "_statistics", lambda samples: drawn.append(samples.shape) or statistics(samples))
    loads = [case(np.ones((10, 10, 10))) for _ in range(4)]
    make_fingerprint(loads, ("T1",), "MR", SIDED)
    assert drawn == [(1, 100)]


def test_objects_of_things_are_counted_over_the_cases():
    table = LabelTable(
        labels=(
            Label(value=1, name="cell", kind="thing"),
            Label(value=2, name="vessel"),
            Label(value=3, name="spot", kind="thing"),
        )
    )

    def two(ids):
        layers = np.minimum(ids, 1).astype(np.uint8)
        volume = Volume(np.arange(ids.size, dtype=np.int16).reshape(1, *ids.shape), Geometry.from_spacing(ids.shape, (1, 2, 3)))
        return lambda: (volume, LabelMap(layers[None], volume.geometry, table, instances=ids[None]))

    ids = np.zeros((4, 4, 4), np.uint32)
    ids[0, 0], ids[1, 1], ids[3, 3, 3] = 5, 7, 70_000
    seen = make_fingerprint([two(ids), two(np.zeros_like(ids))], ("T1",), "MR", table)
    assert seen.objects == seen.objects_by_label["cell"]
    assert (seen.objects.total, seen.objects.per_case, seen.objects.touching, seen.objects.unit) == (3, (0, 1.5, 3), 2, "mm")
    assert seen.objects.median_diameter == pytest.approx((6 * 4 * 6 / np.pi) ** (1 / 3), abs=1e-6)
    assert list(seen.objects_by_label) == ["cell", "spot"]
    assert seen.objects_by_label["spot"].diameter is None
    plain = make_fingerprint([case(np.arange(8, dtype=np.int16).reshape(2, 2, 2))], ("T1",), "MR", SIDED)
    assert plain.objects is None
    assert plain.objects_by_label == {}
