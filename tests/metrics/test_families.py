"""Families of metrics by name: each column against the function it stands on, and by hand where that is easy."""

import numpy as np
import pytest

from helpers.predicted_map import predicted
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import SPARSE, LabelMap, Source
from voxelry.errors import GeometryError, UsageError
from voxelry.metrics.families import measure
from voxelry.metrics.metric_table import FAMILIES
from voxelry.metrics.surface import surface_metrics

SPACING = (1.0, 2.0, 3.0)
GRID = Geometry.from_spacing((20, 20, 20), SPACING)
TABLE = LabelTable(labels=(Label(value=4, name="a"), Label(value=9, name="b")))


def cubes(shift=0):
    array = np.zeros(GRID.shape, np.uint8)
    array[2 + shift : 8 + shift, 3:9, 4:10] = 4
    array[10:16, 10 + shift : 16 + shift, 2:8] = 9
    return LabelMap.of(array, GRID, TABLE)


def test_all_families_at_once():
    scores = measure(cubes(), predicted(cubes(1)), "x", list(FAMILIES))
    assert scores.cases == ("x",)
    np.testing.assert_allclose(scores.dice, 5 / 6)
    for name in ("precision", "recall"):
        np.testing.assert_allclose(scores.values[name], [[5 / 6, 5 / 6]])
    np.testing.assert_allclose(scores.values["volume_error"], 0)
    np.testing.assert_allclose(scores.values["hd"], [[1, 2]])
    np.testing.assert_allclose(scores.values["instance_tp"], 1)
    np.testing.assert_allclose(scores.values["instance_pq"], 5 / 7)
    assert list(scores.values) == [metric.name for family in FAMILIES.values() for metric in family.metrics]
    assert scores.to_dict()["labels"]["b"]["hd"] == pytest.approx(2)


def test_the_spacing_goes_with_the_axes_where_the_reference_is_laid_onto_the_prediction():
    turned = Reindex((2, 0, 1), (True, False, False))
    part = cubes().array[:, :, 1:11]
    geometry = GRID.cropped((0, 0, 1), part.shape)
    sparse = LabelMap.of(turned.apply(part), geometry.reindexed(turned), TABLE, Source(kind=SPARSE))
    found, expected = (measure(one, cubes(1), metrics=["surface"]) for one in (sparse, cubes()))
    for name, values in expected.values.items():
        np.testing.assert_allclose(found.values[name], values, err_msg=name)


def test_distances_in_pixels_where_the_pixel_size_is_unknown():
    def square(shift):
        array = np.zeros((20, 24), np.uint8)
        array[4:10, 5 + shift : 12 + shift] = 4
        return LabelMap.of(array, Geometry((20, 24)), TABLE)

    found = measure(square(0), square(2), metrics=["surface_pixels"], tolerance=1.0).values
    expected = surface_metrics(square(0).array // 4, square(2).array // 4, (1.0, 1.0), [1], 1.0)[1]
    for name, value in expected.items():
        if f"{name}_px" in found:
            assert found[f"{name}_px"][0, 0] == pytest.approx(value), name
    assert found["hd_px"][0, 0] == 2
    assert 0 < found["nsd_px"][0, 0] < 1
    with pytest.raises(GeometryError, match="surface_pixels"):
        measure(square(0), square(2), metrics=["surface"])


@pytest.mark.parametrize(("given", "by_index"), [(1.5, 1.5), ({"a": 0.5, "b": 2.5}, {1: 0.5, 2: 2.5})])
def test_tolerances_of_nsd_for_all_labels_or_by_name(given, by_index):
    found = measure(cubes(), cubes(1), metrics=["surface"], tolerance=given).values["nsd"][0]
    classes = [np.select([labels.array == 4, labels.array == 9], [1, 2]).astype(np.uint8) for labels in (cubes(), cubes(1))]
    expected = surface_metrics(*classes, SPACING, tolerances=by_index)
    np.testing.assert_allclose(found, [expected[1]["nsd"], expected[2]["nsd"]])


@pytest.mark.parametrize(
    ("tolerance", "words"),
    [
        ({"a": 1.0, "c": 1.0}, "'c', which is no label"),
        ({"a": 1.0}, "no tolerance"),
        (float("nan"), "tolerance of nan"),
        (-1.0, "of -1"),
        ({"a": 1.0, "b": float("inf")}, "of inf"),
    ],
)
def test_tolerances_that_do_not_fit_the_labels(tolerance, words):
    with pytest.raises(UsageError, match=words):
        measure(cubes(), cubes(), metrics=["surface"], tolerance=tolerance)


@pytest.mark.parametrize("shape", [(20, 20, 20), (160, 140, 130)])  # plain loops, compiled loops
def test_what_a_prediction_says_of_ignored_voxels_counts_nowhere(shape):
    """Ignored voxels are background in both maps: wrong labels there change no column, nor does a whole object there."""
    grid, names = Geometry.from_spacing(shape, SPACING), LabelTable(labels=TABLE.labels, ignore=255)
    truth = np.zeros(shape, np.uint8)
    truth[2:8, 3:9, 4:10] = 4
    truth[10:16, 10:16, 2:8] = 9
    clean = truth.copy()
    truth[6:, :, 12:], truth[6:8, 3:9, 4:10] = 255, 255
    clean[truth == 255] = 0
    wrong = clean.copy()
    wrong[6:8, 3:9, 4:10], wrong[12:15, 5:8, 14:18], wrong[17:19, 2:4, 14:16] = 9, 4, 9  # in ignored voxels alone
    assert (wrong != clean).sum() == (wrong[truth == 255] != 0).sum() > 0
    scored = [
        measure(LabelMap.of(truth, grid, names), predicted(LabelMap.of(guess, grid, TABLE)), metrics=list(FAMILIES)).values
        for guess in (clean, wrong)
    ]
    for name, values in scored[0].items():
        np.testing.assert_array_equal(scored[1][name], values, err_msg=name)
    assert scored[1]["hd"].tolist() == [[0.0, 0.0]]
    assert scored[1]["instance_fp"].tolist() == [[0.0, 0.0]]
    assert scored[1]["instance_tp"].tolist() == [[1.0, 1.0]]
    assert scored[1]["nsd"].tolist() == scored[1]["boundary_iou"].tolist() == [[1.0, 1.0]]


def test_where_an_ignored_region_cuts_a_label_both_maps_have_a_surface():
    """The cut is a surface at distance 0 of both: HD does not see the ignored voxels, NSD counts the cut as right."""
    grid, names = Geometry.from_spacing((20, 20, 20), (1, 1, 1)), LabelTable(labels=TABLE.labels, ignore=255)
    truth = np.zeros((20, 20, 20), np.uint8)
    truth[4:16, 4:16, 4:10] = 4
    guess = np.roll(truth, 2, axis=0)
    truth[:, :, 10:] = 255
    guess[:, :, 10:] = 4
    values = measure(LabelMap.of(truth, grid, names), LabelMap.of(guess, grid, TABLE), metrics=["surface"]).values
    cut = [np.where(array == 255, 0, array) for array in (truth, np.where(truth == 255, 0, guess))]
    by_hand = surface_metrics(*cut, (1, 1, 1), [4])[4]
    assert values["hd"][0, 0] == by_hand["hd"] == 2
    assert values["nsd"][0, 0] == by_hand["nsd"]


def test_an_unknown_family_names_the_nearest():
    with pytest.raises(UsageError, match="surface"):
        measure(cubes(), cubes(), metrics=["surfaces"])
