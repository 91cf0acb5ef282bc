"""The main job from the scanner's files to measured masks, by the command line, on a few coarse phantoms of each kind."""

import json
import shutil
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from safetensors.numpy import load_file
from typer.testing import CliRunner

import voxelry
from helpers.tiny import phantoms, recipe
from voxelry.cli import main as cli
from voxelry.cohort.measurement_table import TABLE_NAMES
from voxelry.cohort.run_export import MANIFEST
from voxelry.reports.run_report import PAGE, data_folder


def run(*arguments, code=0):
    result = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1])


def weights(folder):
    return load_file(folder / "model" / "weights.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_dicom_in_masks_out(torso, torso_model, tmp_path):
    cases = [torso / "images" / f"torso_00{n}" for n in (2, 3)]
    formats = ("--format", "nifti", "--format", "dicom-seg")
    done = run("predict", torso_model, *cases, "--out", tmp_path, *formats, "--task", "semantic")
    assert (done["cases"], done["failed"]) == (2, {})
    scores = run("evaluate", torso / "manifest.yaml", tmp_path)
    assert scores["cases"] == 2
    assert scores["mean_dice"] == pytest.approx(by_hand(torso, tmp_path), abs=1e-12)
    for case in cases:
        check_seg(case, tmp_path / f"{case.name}.seg.dcm", tmp_path / f"{case.name}.nii.gz")


def by_hand(torso, masks):
    """Mean over labels of the mean over cases of 2 |A and B| / (|A| + |B|), absent in both left out."""
    table = voxelry.read_labels(masks / "torso_002.nii.gz").table
    rows = []
    for name in ("torso_002", "torso_003"):
        truth = np.asanyarray(nib.load(torso / "labels" / f"{name}.nii.gz").dataobj)
        guess = np.asanyarray(nib.load(masks / f"{name}.nii.gz").dataobj)
        pairs = [((truth == label.value), (guess == label.value)) for label in table.labels]
        rows.append([2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else np.nan for a, b in pairs])
    known = np.array(rows)[:, ~np.isnan(rows).all(axis=0)]
    return np.nanmean(known, axis=0).mean()


def check_seg(series, seg_file, nifti_file):
    """highdicom puts each segment on the source's own slices; the voxels are those of the NIfTI mask."""
    slices = [dcmread(file, stop_before_pixels=True) for file in series.iterdir()]
    slices.sort(key=lambda data: float(data.ImagePositionPatient[2]))
    seg = highdicom.seg.segread(seg_file)
    frames = seg.get_pixels_by_source_instance(
        [data.SOPInstanceUID for data in slices], combine_segments=True, assert_missing_frames_are_empty=True
    )
    labels = voxelry.read_labels(nifti_file)
    volume = voxelry.read(series)
    assert [uid for uid, _ in volume.source.instances] == [data.SOPInstanceUID for data in slices]
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), labels.table.to_classes(labels.array, "mask"))
    assert labels.geometry.same_grid(volume.geometry)
    assert seg.FrameOfReferenceUID == slices[0].FrameOfReferenceUID


def test_the_same_seed_gives_the_same_weights(torso, tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        run("train", torso / "recipe.yaml", "--out", tmp_path / name, "--set", "steps=4", "--set", f"seed={seed}")
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "other"))


@pytest.mark.slow
def test_four_channels_of_a_spine(tmp_path):
    folder = phantoms(tmp_path / "set", "spine-mri", format="nifti").parent
    recipe(folder)
    done = run("train", folder / "recipe.yaml", "--out", tmp_path / "run")
    assert done["cases"] == 1
    scans = tmp_path / "scans"
    scans.mkdir()
    for case in ("spine_002", "spine_003"):
        for channel in range(4):
            shutil.copy(folder / "images" / f"{case}_{channel:04d}.nii.gz", scans)
    masks = tmp_path / "masks"
    assert run("predict", tmp_path / "run" / "model", scans, "--out", masks)["cases"] == 2
    names = {f"{case}{ending}" for case in ("spine_002", "spine_003") for ending in (".json", ".nii.gz", "_instances.nii.gz")}
    assert {path.name for path in masks.glob("[!.]*")} == names | {MANIFEST, *TABLE_NAMES, data_folder(Path(PAGE)).name, PAGE}
    image, mask = nib.load(scans / "spine_002_0000.nii.gz"), nib.load(masks / "spine_002.nii.gz")
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
    assert run("evaluate", folder / "manifest.yaml", masks)["cases"] == 2
    (scans / "spine_003_0003.nii.gz").unlink()
    failed = run("predict", tmp_path / "run" / "model", scans, "--out", masks, code=1)["failed"]
    assert sorted(failed) == ["spine_003_0000", "spine_003_0001", "spine_003_0002"]
    assert "4 (in-phase" in failed["spine_003_0000"]


@pytest.mark.parametrize("format", ["png", "dicom"])
def test_pictures(tmp_path, format):
    folder = phantoms(tmp_path / "set", "chest-xray", format=format).parent
    recipe(folder)
    run("train", folder / "recipe.yaml", "--out", tmp_path / "run")
    masks = tmp_path / "masks"
    formats = ["nifti", "png"] if format == "png" else ["nifti", "dicom-seg"]
    options = [part for name in formats for part in ("--format", name)]
    done = run("predict", tmp_path / "run" / "model", folder / "images", "--out", masks, *options, "--workers", "0")
    assert (done["cases"], done["failed"]) == (4, {})
    names = [f"chest_00{n}" for n in range(4)]
    assert sorted(path.name for path in masks.glob("*.nii.gz")) == [f"{name}.nii.gz" for name in names]

    scan = voxelry.read(folder / "images" / f"chest_000.{'png' if format == 'png' else 'dcm'}")
    labels = voxelry.read_labels(masks / "chest_000.nii.gz")
    assert labels.geometry.same_grid(scan.geometry)
    assert (labels.geometry.pixel_size is None) == (format == "png")
    seen = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(masks / "chest_000.nii.gz")))
    np.testing.assert_array_equal(seen, labels.array[None])
    if format == "png":
        np.testing.assert_array_equal(voxelry.read_labels(masks / "chest_000.png").array, labels.array)
        shutil.rmtree(masks)
        run("predict", tmp_path / "run" / "model", folder / "images", "--out", masks, "--workers", "0")
    of_folder, of_card = (voxelry.evaluate(references, masks) for references in (folder / "labels", folder / "manifest.yaml"))
    dice = [{(row["case"], row["label"]): row["dice"] for row in scores.rows()} for scores in (of_folder, of_card)]
    assert len(of_folder.cases) == 4
    assert dice[0] == dice[1]
