"""Measures against SciPy and closed forms, and their independence of how a scan is stored."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import skew

from helpers.quality import ORGANS, organs
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.inference.case_measures import measure_case


def test_moments_and_components_agree_with_scipy():
    volume, labels = organs(3)
    labels.layers[0, 30, 26, 38] = 2  # a speck
    measures = measure_case(volume, labels)
    inside = labels.mask("cone")
    places = np.argwhere(inside)
    row = measures.labels["cone"]
    assert row["volume"] == pytest.approx(math.log(len(places) * 1.0 * 1.2 * 1.5))
    for axis, name in enumerate("RAS"):
        assert row[f"skew_{name}"] == pytest.approx(skew(places[:, axis]))
        assert row[f"place_{name}"] == pytest.approx((places[:, axis].mean() + 0.5) / volume.geometry.shape[axis])
    sizes = np.bincount(ndimage.label(inside, np.ones((3, 3, 3)))[0].ravel())[1:]
    assert row["fragments"] == pytest.approx(1 - sizes.max() / sizes.sum())
    grey = volume.array[0]
    low, middle, high = np.percentile(grey, (5, 50, 95))
    assert row["contrast_0"] == pytest.approx((grey[inside].mean() - middle) / (high - low), rel=1e-4)
    assert measures.scan["balance_0"] == pytest.approx((middle - low) / (high - low))
    places = np.indices(grey.shape)
    for axis, name in enumerate("RAS"):
        assert measures.scan[f"slope_{name}"] == pytest.approx(np.corrcoef(places[axis].ravel(), grey.ravel())[0, 1], abs=1e-6)
    assert measures.scan["spacing_S"] == pytest.approx(math.log(1.5))
    assert measures.scan["size_S"] == pytest.approx(math.log(60))


def test_the_order_in_which_a_scan_is_stored_changes_nothing():
    volume, labels = organs(1)
    expected = measure_case(volume, labels)
    for order, flips in itertools.product([(0, 1, 2), (2, 0, 1), (1, 0, 2)], [(False,) * 3, (True, False, True)]):
        stored = volume.reindexed(Reindex(order, flips))
        measures = measure_case(stored, labels.on_grid(stored.geometry))
        assert measures.scan == pytest.approx(expected.scan)
        for name, row in expected.labels.items():
            assert measures.labels[name] == pytest.approx(row)


def test_offsets_are_from_the_middle_of_all_labels_in_mm():
    rows = measure_case(*organs(2)).labels
    assert rows["cone"]["offset_S"] == pytest.approx(-rows["box"]["offset_S"])
    apart = (rows["cone"]["place_S"] - rows["box"]["place_S"]) * 40 * 1.5
    assert rows["cone"]["offset_S"] - rows["box"]["offset_S"] == pytest.approx(apart)


def test_an_absent_label_has_no_measures_and_a_single_one_no_offset():
    volume, labels = organs(0)
    labels.layers[labels.layers == 7] = 0
    rows = measure_case(volume, labels).labels
    assert rows["box"] == {}
    assert not [name for name in rows["cone"] if name.startswith("offset")]


def test_noise_roughens_and_blur_smooths():
    volume, labels = organs(0)
    smooth = replace(volume, pixels=ndimage.gaussian_filter(volume.array, (0, 2, 2, 2)))
    noisy = replace(volume, pixels=volume.array + np.random.default_rng(0).normal(0, 60, volume.array.shape).astype(np.float32))
    low, usual, high = (measure_case(each, labels).scan["roughness_0"] for each in (smooth, volume, noisy))
    assert low < usual - 0.5 < usual < high


def test_voxels_on_faces_are_counted():
    geometry = Geometry.from_spacing((4, 5, 6), (1, 1, 1))
    array = np.zeros((4, 5, 6), np.uint8)
    array[0:2, 1:3, 1:3] = 2
    measures = measure_case(Volume(np.zeros((1, 4, 5, 6), np.int16), geometry), LabelMap.of(array, geometry, ORGANS))
    assert measures.labels["cone"]["border"] == 0.5


def test_pictures_are_measured_in_shares():
    table = LabelTable(labels=(Label(value=1, name="lung"),))
    array = np.zeros((10, 20), np.uint8)
    array[2:6, 5:15] = 1
    geometry = Geometry((10, 20))
    row = measure_case(
        Volume(np.arange(200.0, dtype=np.float32).reshape(1, 10, 20), geometry), LabelMap.of(array, geometry, table)
    )
    lung = row.labels["lung"]
    assert lung["volume"] == pytest.approx(math.log(40 / 200))
    assert lung["place_row"] == pytest.approx(0.4)
    assert lung["extent_column"] == pytest.approx(math.log(0.5))
    assert row.scan["size_aspect"] == pytest.approx(math.log(0.5))


def test_objects_of_things_are_no_fragments():
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))
    array = np.zeros((8, 8), np.uint8)
    array[1:3, 1:3] = array[5:7, 5:7] = 1
    geometry = Geometry((8, 8))
    labels = LabelMap(array[None], geometry, table, instances=array[None].astype(np.uint32))
    assert "fragments" not in measure_case(Volume(np.zeros((1, 8, 8), np.uint8), geometry), labels).labels["cell"]
