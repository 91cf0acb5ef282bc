"""Data of a case for the viewer: geometry, classes, errors and places, read back by nibabel and Pillow."""

import base64
import gzip
import io
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume, Window
from voxelry.errors import GridMismatchError
from voxelry.reports import case_volumes
from voxelry.reports.case_volumes import TWO_MODELS, case_data
from voxelry.reports.run_cases import CaseImages

AFFINE = np.array([[0, -1.5, 0, 10], [1, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
GRID = Geometry((8, 10, 6), AFFINE)
TABLE = LabelTable(
    labels=(
        Label(value=5, name="liver", color=(200, 0, 0)),
        Label(value=1, name="cyst", color=(0, 0, 200), layer=1, kind="thing"),
    )
)


def case() -> tuple[Volume, LabelMap, LabelMap]:
    rng = np.random.default_rng(0)
    volume = Volume(
        rng.integers(-900, 900, (1, *GRID.shape)).astype(np.int16), GRID, modality="CT", windows=(Window(10, 20, name="x"),)
    )
    reference = np.zeros((2, *GRID.shape), np.uint8)
    reference[0, 1:5, 2:6, 1:4], reference[1, 2, 3, 2], reference[1, 6, 8, 4] = 5, 1, 1
    prediction = reference.copy()
    prediction[0, 1], prediction[0, 5, 2:6, 1:4], prediction[1, 2, 3, 2] = 0, 5, 0
    return volume, LabelMap(prediction, GRID, TABLE), LabelMap(reference, GRID, TABLE)


def nifti(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_image_and_labels_keep_grid_and_values():
    volume, prediction, reference = case()
    data = case_data("a", CaseImages(volume, prediction, reference))
    assert_array_equal(nifti(data["scan"]).get_fdata(), volume.array[0])
    for name in ("scan", "prediction", "reference", "errors"):
        assert_allclose(nifti(data[name]).affine, AFFINE)
    expected = np.where(reference.layers[1] == 1, 2, np.where(reference.layers[0] == 5, 1, 0))
    assert_array_equal(np.asarray(nifti(data["reference"]).dataobj), expected)
    assert [(row["value"], row["name"]) for row in data["labels"]] == [(1, "liver"), (2, "cyst")]
    assert [row["name"] for row in data["windows"]] == ["soft tissue", "lung", "bone", "brain", "10 / 20", "most values"]


def test_errors_are_missed_added_or_another_label():
    volume, prediction, reference = case()
    errors = np.asarray(nifti(case_data("a", CaseImages(volume, prediction, reference))["errors"]).dataobj)
    assert (errors[1, 2:6, 1:4] == 1).all()
    assert (errors[5, 2:6, 1:4] == 2).all()
    assert errors[2, 3, 2] == 3
    assert np.count_nonzero(errors) == 12 + 12 + 1


def test_two_models_have_predictions_and_errors_of_their_own():
    volume, prediction, reference = case()
    data = case_data("a", CaseImages(volume, reference, reference, other=prediction))
    assert set(TWO_MODELS) <= set(data)
    assert not np.asarray(nifti(data["errors"]).dataobj).any()
    alone = case_data("a", CaseImages(volume, prediction, reference))
    assert (data["other"], data["other_errors"]) == (alone["prediction"], alone["errors"])
    names = {row["name"].partition(":")[0] for row in data["objects"]}
    assert names == {"A", "B", "reference"}


def test_places_to_jump_to_lie_in_their_objects():
    volume, prediction, reference = case()
    places = {
        row["name"].partition(",")[0]: row["mm"] for row in case_data("a", CaseImages(volume, prediction, reference))["objects"]
    }
    assert {"prediction: liver", "reference: liver"} <= set(places)
    cysts = [GRID.index(mm) for name, mm in places.items() if name.startswith("reference: cyst")]
    assert sorted(tuple(np.round(voxel).astype(int)) for voxel in cysts) == [(2, 3, 2), (6, 8, 4)]


def test_a_large_scan_is_thinned_and_keeps_its_place(monkeypatch):
    monkeypatch.setattr(case_volumes, "MOST_VOXELS", 130)
    volume, prediction, _ = case()
    data = case_data("a", CaseImages(volume, prediction))
    thin = nifti(data["scan"])
    assert np.prod(thin.shape) <= 130
    assert "every" in data["note"]
    step = np.round(np.linalg.solve(AFFINE, thin.affine)[:3, :3].diagonal()).astype(int)
    assert_array_equal(thin.get_fdata(), volume.array[0][tuple(slice(None, None, s) for s in step)])
    assert_allclose(thin.affine[:3, 3], AFFINE[:3, 3])


def test_fractions_are_kept_to_a_step_of_their_range():
    volume, prediction, _ = case()
    values = np.random.default_rng(1).normal(size=(1, *GRID.shape)).astype(np.float32)
    shown = nifti(case_data("a", CaseImages(replace(volume, pixels=values), prediction))["scan"]).get_fdata()
    assert_allclose(shown, values[0], atol=np.ptp(values) / 65000)


def test_a_picture_has_layers_of_one_size():
    grid = Geometry((20, 30), None, (2.0, 1.0))
    array = np.zeros((20, 30), np.uint8)
    array[4:12, 3:12] = 1
    table = LabelTable(labels=(Label(value=1, name="lung", color=(0, 0, 255)),))
    unnamed = LabelMap.of(array, grid, LabelTable.numbered([1]))
    volume, reference = Volume(np.full((1, 20, 30), 9, np.uint8), grid), LabelMap.of(np.roll(array, 2, 1), grid, table)
    data = case_data("a", CaseImages(volume, unnamed, reference))
    assert [row["name"] for row in data["labels"]] == ["lung"]  # numbers without names are the reference's
    images = {
        name: Image.open(io.BytesIO(base64.b64decode(data[name]))) for name in ("scan", "prediction", "reference", "errors")
    }
    assert len({image.size for image in images.values()}) == 1
    assert images["scan"].width / images["scan"].height == pytest.approx(30 / 40, rel=0.05)
    rgba = np.asarray(images["prediction"])
    rows, columns = np.nonzero(rgba[..., 3])
    assert (rows.mean() / rgba.shape[0], columns.mean() / rgba.shape[1]) == pytest.approx((8 / 20, 7.5 / 30), abs=0.03)


def test_labels_of_another_grid_are_refused():
    volume, prediction, _ = case()
    with pytest.raises(GridMismatchError):
        case_data("a", CaseImages(replace(volume, geometry=Geometry.from_spacing(GRID.shape, (9, 9, 9))), prediction))
