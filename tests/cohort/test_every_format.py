"""Every format of the table, from file to file: evaluated, converted, trained from and predicted on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import voxelry as vx
from helpers import format_samples as samples
from helpers.command import tree
from helpers.sources import volume
from voxelry.base.files import write_yaml
from voxelry.core.volume import Volume
from voxelry.errors import MissingFileError
from voxelry.formats.file_format import Format
from voxelry.formats.table import format_named, image_formats, label_formats

IMAGES = list(image_formats())
LABELS = list(label_formats())
DICOM = format_named("dicom")
RECIPE = {"manifest": "set.yaml", "steps": 3, "validations": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A DICOM series with a bright box in it."""
    folder = tmp_path_factory.mktemp("source")
    volume("axial", folder)
    return vx.read(folder / "source-axial")


def scan_of(row, scan):
    return samples.picture(0) if row.is_picture else scan


def by_name(row):
    return row.name


@pytest.mark.parametrize("row", LABELS, ids=by_name)
def test_folders_of_masks_are_evaluated(row, scan, tmp_path):
    """Both sides in the format, and the format against NIfTI on either side; the series of contours lies beside the folders."""
    image = scan_of(row, scan)
    if row.family == "dicom":
        samples.image(DICOM, image, tmp_path / "series")
    for name in "ab":
        for side in ("reference", "prediction"):
            file = samples.labels(row, image, tmp_path / side / name)
        vx.write(vx.read_labels(file), tmp_path / "nifti" / f"{name}.nii.gz")
        assert np.count_nonzero(vx.read_labels(file).layers) == (60 if row.is_picture else 48)
    for one, other in (("reference", "prediction"), ("reference", "nifti"), ("nifti", "prediction")):
        scores = vx.evaluate(tmp_path / one, tmp_path / other)
        assert (scores.cases, scores.mean_dice) == (("a", "b"), 1.0)


@pytest.mark.parametrize("row", LABELS, ids=by_name)
def test_a_mask_is_converted(row, scan, tmp_path):
    image = scan_of(row, scan)
    reference = None if row.is_picture else samples.image(DICOM, image, tmp_path / "s")
    mask = samples.labels(row, image, tmp_path / "a")
    out = vx.convert(mask, tmp_path / "out.nii.gz", reference=None if row.name == "analyze" else reference).path
    assert np.count_nonzero(vx.read_labels(out).array) == (60 if row.is_picture else 48)


def test_contours_without_their_series_are_filled_on_the_mask_they_are_compared_with(scan, tmp_path):
    contours = next(row for row in LABELS if row.name == "rtstruct")
    samples.labels(contours, scan, tmp_path / "one" / "reference" / "a")
    vx.write(samples.middle(scan.geometry), tmp_path / "two" / "prediction" / "a.nii.gz")
    assert vx.evaluate(tmp_path / "one" / "reference", tmp_path / "two" / "prediction").mean_dice == 1.0
    assert vx.evaluate(tmp_path / "two" / "prediction", tmp_path / "one" / "reference").mean_dice == 1.0
    with pytest.raises(MissingFileError, match="not beside it"):
        vx.evaluate(tmp_path / "one" / "reference", tmp_path / "one" / "reference")


def pairs(picture: bool) -> list[tuple[Format, Format]]:
    """Formats of image and mask, so that each occurs; masks in DICOM belong to images in DICOM.

    A mask lies beside an image of its own format, where there is one: Analyze stores no orientation.
    """
    images = {row.name: row for row in IMAGES if row.is_picture is picture and row is not DICOM}
    masks = {row.name: row for row in LABELS if row.family != "dicom" and (2 if picture else 3) in row.axes}
    some_image, some_mask = next(iter(images.values())), next(iter(masks.values()))
    plain = [(images.get(name, some_image), mask) for name, mask in masks.items()]
    plain += [(image, some_mask) for name, image in images.items() if name not in masks]
    return plain if picture else [*plain, *((DICOM, row) for row in LABELS if row.family == "dicom")]


def brighter(scan: Volume, by: int) -> Volume:
    """The scan as another patient's: the same image for training and validation is a fault of the set."""
    return replace(scan, pixels=scan.array + np.int16(by))


def dataset(folder: Path, picture: bool, scan: Volume) -> list[str]:
    """A manifest with a case for each of `pairs`; the ids of its cases."""
    rows = []
    for number, (image, mask) in enumerate(pairs(picture)):
        id = f"c{number}"
        file = samples.image(image, samples.picture(number) if picture else brighter(scan, number), folder / "images" / id)
        reference = samples.labels(mask, scan if image is DICOM else vx.read(file), folder / "labels" / id)
        rows.append({"id": id, "images": [str(file)], "labels": str(reference), "split": "val" if number == 1 else "train"})
    card = {"name": "s", "modality": "DX" if picture else "CT", "dimensions": 2 if picture else 3}
    write_yaml(folder / "set.yaml", card | {"labels": [{"value": 1, "name": "organ"}], "cases": rows})
    return [row["id"] for row in rows]


@pytest.mark.parametrize("picture", [False, True], ids=["volumes", "pictures"])
def test_trained_from_and_predicted_on(picture, scan, tmp_path):
    ids = dataset(tmp_path, picture, scan)
    assert [problem for problem in vx.check(tmp_path / "set.yaml") if problem.kind != "note"] == []  # DICOM images are copies
    patch = [16, 16] if picture else [8, 8, 8]
    write_yaml(tmp_path / "recipe.yaml", RECIPE | {"plan": {"patch_size": patch, "batch_size": 2, "features": [4, 8]}})
    model = vx.train(tmp_path / "recipe.yaml", tmp_path / "run").model.path
    folders = [path for path in (tmp_path / "images").iterdir() if path.is_dir()]
    outcomes = vx.predict(model, [tmp_path / "images", *sorted(folders)], tmp_path / "masks", workers=0)
    assert [outcome.error for outcome in outcomes] == [""] * len(ids)
    assert tree(tmp_path / "masks") == sorted(f"{id}.nii.gz" for id in ids)
    assert set(vx.evaluate(tmp_path / "set.yaml", tmp_path / "masks").cases) == set(ids)
