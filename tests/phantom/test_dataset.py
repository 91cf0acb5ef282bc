from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from voxelry.base.files import read_yaml
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import ExportError, UsageError
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.nifti import write_nifti, write_png
from voxelry.phantom.phantom import ACQUISITIONS, TABLES, make_phantom

COARSE = {
    "torso-ct": replace(ACQUISITIONS["torso-ct"], spacing=(8.0, 8.0, 20.0)),
    "spine-mri": replace(ACQUISITIONS["spine-mri"], spacing=(6.0, 6.0, 20.0)),
    "chest-xray": replace(ACQUISITIONS["chest-xray"], spacing=(6.0, 6.0, 12.0)),
    "chest-xray-heart": replace(ACQUISITIONS["chest-xray"], spacing=(6.0, 6.0, 12.0)),
}


@pytest.mark.parametrize(
    ("kind", "format", "images"),
    [
        ("torso-ct", "dicom", ["images/torso_002"]),
        ("torso-ct", "nifti", ["images/torso_002.nii.gz"]),
        ("spine-mri", "dicom", [f"images/spine_002/{c}" for c in ("in-phase", "opposed-phase", "water", "fat")]),
        ("spine-mri", "nifti", [f"images/spine_002_{c:04d}.nii.gz" for c in range(4)]),
        ("chest-xray", "dicom", ["images/chest_002.dcm"]),
        ("chest-xray", "png", ["images/chest_002.png"]),
    ],
)
def test_the_manifest_names_what_was_written(kind, format, images, tmp_path):
    card = read_yaml(write_phantoms(tmp_path, kind, 3, format=format, val=1, test=1, acquisition=COARSE[kind]))
    assert [case["split"] for case in card["cases"]] == ["train", "val", "test"]
    assert len({case["group"] for case in card["cases"]}) == 3
    assert card["cases"][2]["images"] == images
    for case in card["cases"]:
        assert len(case["images"]) == len(card["channels"])
        assert all((tmp_path / path).exists() for path in [*case["images"], case["labels"]])
    assert LabelTable(labels=card["labels"]) == TABLES[kind]
    assert "Synthetic" in card["description"]
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.parametrize("format", ["png", "dicom"])
def test_labels_that_overlap_have_a_file_each(format, tmp_path):
    made = write_phantoms(tmp_path, "chest-xray-heart", 3, format=format, val=1, test=1, acquisition=COARSE["chest-xray-heart"])
    manifest = load_manifest(made)
    assert manifest.card.table == TABLES["chest-xray-heart"]
    assert [(case.id, case.split) for case in manifest.cases] == [
        ("heart_000", "train"), ("heart_001", "val"), ("heart_002", "test"),
    ]  # fmt: skip
    expected = make_phantom("chest-xray-heart", 2, COARSE["chest-xray-heart"])
    image, labels = load_case(manifest.cases[2], manifest)
    np.testing.assert_array_equal(labels.layers, expected.labels.layers)
    assert image.shape == expected.volume.shape


def test_nifti_holds_the_phantom_and_its_grid(tmp_path):
    write_phantoms(tmp_path, "torso-ct", 1, seed=3, format="nifti", acquisition=COARSE["torso-ct"])
    expected = make_phantom("torso-ct", 3000, COARSE["torso-ct"])
    for path, array in (("images", expected.volume.array[0]), ("labels", expected.labels.array)):
        image = nib.load(tmp_path / path / "torso_000.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj), array)
        assert image.get_data_dtype() == array.dtype
        np.testing.assert_allclose(image.get_sform(), expected.volume.geometry.affine, atol=1e-5)
        np.testing.assert_allclose(image.get_qform(), expected.volume.geometry.affine, atol=1e-4)
        assert image.header["sform_code"] == image.header["qform_code"] == 1


def test_a_sheared_grid_has_an_sform_alone(tmp_path):
    grid = replace(COARSE["torso-ct"], tilt=10.0).grid()
    write_nifti(np.zeros(grid.shape, np.uint8), grid, tmp_path / "a.nii.gz")
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (1, 0)
    np.testing.assert_allclose(header.get_sform(), grid.affine, atol=1e-5)


def test_pictures_keep_their_values_and_pixel_size(tmp_path):
    found = make_phantom("chest-xray", 0, COARSE["chest-xray"])
    write_png(found.volume.array[0], found.volume.geometry, tmp_path / "image.png")
    write_png(found.labels.array, found.labels.geometry, tmp_path / "labels.png")
    with Image.open(tmp_path / "image.png") as image, Image.open(tmp_path / "labels.png") as labels:
        np.testing.assert_array_equal(np.asarray(image), found.volume.array[0] // 16)
        np.testing.assert_array_equal(np.asarray(labels), found.labels.array)
        assert 25.4 / image.info["dpi"][0] == pytest.approx(6.0, rel=0.01)


def test_sets_with_other_seeds_share_no_patient(tmp_path):
    paths = [write_phantoms(tmp_path / str(seed), "chest-xray", 1, seed=seed, format="png") for seed in (0, 1)]
    images = [(path.parent / "images" / "chest_000.png").read_bytes() for path in paths]
    assert images[0] != images[1]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ({"kind": "spine"}, "spine-mri"),
        ({"format": "nifty"}, "nifti"),
        ({"format": "png"}, "dicom"),
        ({"kind": "chest-xray", "format": "nifti"}, "png"),
        ({"count": 0}, "1 to 1000"),
        ({"val": 2, "test": 2}, "fit in the count"),
    ],
)
def test_a_wrong_call_writes_nothing(call, word, tmp_path):
    arguments = {"kind": "torso-ct", "count": 3} | call
    with pytest.raises(UsageError, match=word):
        write_phantoms(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


def test_a_picture_is_no_nifti(tmp_path):
    with pytest.raises(ExportError, match="PNG or DICOM"):
        write_nifti(np.zeros((3, 3), np.uint8), Geometry((3, 3)), tmp_path / "a.nii.gz")
