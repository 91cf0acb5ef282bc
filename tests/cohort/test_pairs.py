"""Pairing references with predictions, and what comes of it."""

import logging

import numpy as np
import pytest
from PIL import Image

from helpers.ct_series import ct_series
from voxelry.base.files import write_yaml
from voxelry.cohort.evaluation import evaluate_pairs
from voxelry.cohort.pairs import find_pairs, masks_in
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import GridMismatchError, MissingFileError, UnsupportedFormatError, UsageError
from voxelry.formats.grids.nifti_write import write_nifti
from voxelry.formats.writer import write
from voxelry.phantom.nifti import write_nifti as write_bare_nifti

GRID = Geometry.from_spacing((4, 5, 2), (1, 1, 1))
HALF = np.zeros(GRID.shape, np.uint8)
HALF[:2] = 1
QUARTER = HALF.copy()
QUARTER[1] = 0


def mask(path, array=HALF, geometry=GRID):
    return write_bare_nifti(array, geometry, path)


def png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def folders(tmp_path):
    for name in "ab":
        mask(tmp_path / "ref" / f"{name}.nii.gz")
        mask(tmp_path / "pred" / f"{name}.nii.gz", QUARTER)
    return tmp_path / "ref", tmp_path / "pred"


def test_two_files_are_one_pair(folders):
    reference, prediction = (folder / "a.nii.gz" for folder in folders)
    scores = evaluate_pairs(find_pairs(reference, prediction))
    assert scores.cases == ("a",)
    assert scores.mean_dice == pytest.approx(2 / 3)


def test_folders_are_paired_by_case_id(folders):
    reference, prediction = folders
    mask(prediction / "extra.nii.gz")
    (prediction / "log.txt").write_text("")
    (prediction / ".hidden.nii.gz").write_text("")
    assert evaluate_pairs(find_pairs(reference, prediction)).cases == ("a", "b")


def test_a_missing_prediction_is_named(folders):
    reference, prediction = folders
    (prediction / "b.nii.gz").unlink()
    with pytest.raises(MissingFileError, match=r"pred: no prediction for 1 of 2 references \(b\).*paired by name"):
        find_pairs(reference, prediction)


def test_pictures_are_compared_across_formats(tmp_path):
    picture = np.zeros((3, 7), np.uint8)
    picture[:, :4] = 1
    png(tmp_path / "ref" / "x.png", picture)
    predicted = picture.copy()
    predicted[0] = 0
    (tmp_path / "pred").mkdir()
    for size in (None, (0.4, 0.2)):
        labels = LabelMap.of(predicted, Geometry((3, 7), None, size), LabelTable.numbered([1]))
        write_nifti(labels, tmp_path / "pred" / "x.nii.gz")
        scores = evaluate_pairs(find_pairs(tmp_path / "ref", tmp_path / "pred"))
        assert scores.mean_dice == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("reference", "prediction", "kind", "words"),
    [
        ("nowhere", "pred", MissingFileError, "nowhere"),
        ("ref", "nowhere", MissingFileError, "nowhere"),
        ("ref", "pred/a.nii.gz", UsageError, "one is a folder"),
        ("ref", "empty", MissingFileError, r"empty: holds no mask.*\.nii\.gz"),
    ],
)
def test_what_cannot_be_paired(folders, tmp_path, reference, prediction, kind, words):
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind, match=words):
        find_pairs(tmp_path / reference, tmp_path / prediction)


@pytest.mark.parametrize(
    "endings", [(".nii.gz", ".nrrd"), (".nii.gz", ".mha", ".nrrd"), (".nii", ".nii.gz"), (".mha", ".seg.dcm")]
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_mask_in_several_formats_is_read_from_one_of_them(tmp_path, endings, side):
    scan = ct_series(tmp_path)
    labels = LabelMap.of(np.zeros(scan.geometry.shape, np.uint8), scan.geometry, LabelTable.numbered([1]))
    labels.array[2:5, 1:4, 1:3] = 1
    folders = tmp_path / "one", tmp_path / "several"
    write(labels, folders[0] / "a.nii.gz")
    for ending in endings:
        write(labels, folders[1] / f"a{ending}", source=scan)
    scores = evaluate_pairs(find_pairs(folders[side], folders[1 - side]))
    assert (scores.cases, scores.mean_dice) == (("a",), 1.0)


def test_two_masks_of_one_case_that_differ_fail_by_name_and_the_others_are_scored(folders):
    mask(folders[1] / "a.nii", HALF)
    failed = evaluate_pairs(find_pairs(*folders)).failed
    assert failed.keys() == {"a"}
    assert failed["a"].endswith(r"a.nii and a.nii.gz are two masks of case 'a' that differ. Keep one of them.")
    mask(folders[1] / "a.nii", QUARTER, Geometry.from_spacing(GRID.shape, (1, 1, 2)))
    assert "differ" in evaluate_pairs(find_pairs(*folders)).failed["a"]
    (folders[0] / "b.nii.gz").unlink()
    with pytest.raises(UsageError, match="two masks of case 'a' that differ"):
        evaluate_pairs(find_pairs(*folders))


def test_predictions_without_a_reference_are_counted_and_named(folders, caplog):
    for name in ("x", "y", "a.probability", "b.entropy"):
        mask(folders[1] / f"{name}.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert [pair[0] for pair in find_pairs(*folders)] == ["a", "b"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folders[1]}: 2 predictions have no reference and are not scored: x, y"
    ]


def test_masks_that_cannot_be_compared(folders, tmp_path):
    reference, prediction = (folder / "a.nii.gz" for folder in folders)
    mask(prediction, geometry=Geometry.from_spacing(GRID.shape, (1, 1, 1.5)))
    with pytest.raises(GridMismatchError, match=r"a\.nii\.gz"):
        evaluate_pairs(find_pairs(reference, prediction))
    (tmp_path / "x.seg.dcm").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(UnsupportedFormatError, match=r"x\.seg\.dcm.*SEG and RTSTRUCT.*images"):
        evaluate_pairs(find_pairs(reference, tmp_path / "x.seg.dcm"))


@pytest.fixture
def manifest(folders, tmp_path):
    """Cases a, b (test) and c (val), whose masks have the ignore value 9 in their last column."""
    cases = []
    for name, split in (("a", "test"), ("b", "test"), ("c", "val")):
        array = HALF.copy()
        array[-1] = 9
        mask(tmp_path / "labels" / f"{name}.nii.gz", array)
        mask(tmp_path / "images" / f"{name}.nii.gz")
        cases.append({"id": name, "images": [f"images/{name}.nii.gz"], "labels": f"labels/{name}.nii.gz", "split": split})
    path = tmp_path / "set.yaml"
    write_yaml(path, {"name": "s", "modality": "CT", "labels": [{"value": 1, "name": "organ"}], "ignore": 9, "cases": cases})
    return path


def test_a_manifest_gives_names_and_what_to_ignore(manifest, folders):
    wrong_where_ignored = HALF.copy()
    wrong_where_ignored[-1] = 1
    for name in "ab":
        mask(folders[1] / f"{name}.nii.gz", wrong_where_ignored)
    scores = evaluate_pairs(find_pairs(manifest, folders[1]))
    assert (scores.cases, scores.labels, scores.mean_dice) == (("a", "b"), ("organ",), 1.0)


def test_a_prediction_that_names_its_labels_is_matched_by_name(manifest, folders):
    table = LabelTable.model_validate({"labels": [{"value": 5, "name": "organ"}]})
    write_nifti(LabelMap.of(HALF * 5, GRID, table), folders[1] / "a.nii.gz")
    assert evaluate_pairs(find_pairs(manifest, folders[1] / "a.nii.gz")).mean_dice == 1.0


def test_cases_of_the_split_that_were_not_predicted_are_said(manifest, folders, caplog):
    (folders[1] / "b.nii.gz").unlink()
    with caplog.at_level(logging.WARNING):
        assert [pair[0] for pair in find_pairs(manifest, folders[1])] == ["a"]
    assert "1 labelled cases have no prediction and are not scored: b" in caplog.text


def test_masks_of_no_labelled_case_of_a_manifest_are_said(manifest, folders, caplog):
    mask(folders[1] / "stranger.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert [pair[0] for pair in find_pairs(manifest, folders[1])] == ["a", "b"]
    assert "1 predictions have no reference and are not scored: stranger" in caplog.text


def test_a_manifest_and_masks_that_have_nothing_in_common(manifest, folders, tmp_path):
    mask(tmp_path / "other" / "z.nii.gz")
    with pytest.raises(UsageError, match=r"other.*set\.yaml.*<case id>"):
        find_pairs(manifest, tmp_path / "other")
    mask(folders[1] / "a.nii.gz", HALF * 7)
    assert "label 7" in evaluate_pairs(find_pairs(manifest, folders[1])).failed["a"]


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (("a.nii.gz", "a.seg.nrrd"), "a.seg.nrrd"),
        (("a.nrrd", "a.seg.nrrd", "a.seg.dcm"), "a.seg.nrrd"),
        (("a.mha", "a.seg.dcm", "a.rtstruct.dcm", "a.sr.dcm"), "a.mha"),
        (("a.rtstruct.dcm", "a.seg.dcm", "a.dcm"), "a.seg.dcm"),
        (("a.dcm", "a.rtstruct.dcm"), "a.rtstruct.dcm"),
        (("a.hdr", "a.img"), "a.hdr"),
        (("a.png", "a.stl", "a.coco.json", "a.jpg"), "a.coco.json"),
        (("a.png", "a.stl", "a.json", "a.jpg"), "a.png"),
    ],
)
def test_which_of_several_masks_of_a_case_counts(tmp_path, names, counts):
    for name in names:
        (tmp_path / name).touch()
    assert masks_in(tmp_path) == {"a": (tmp_path / counts,)}


def test_masks_of_two_plain_formats_count_both(tmp_path):
    for name in ("a.nii.gz", "a.mha"):
        (tmp_path / name).touch()
    assert masks_in(tmp_path) == {"a": (tmp_path / "a.mha", tmp_path / "a.nii.gz")}


def test_predicted_contours_are_filled_on_the_image_of_their_case(tmp_path):
    scan = ct_series(tmp_path)
    labels = LabelMap.of(np.zeros(scan.geometry.shape, np.uint8), scan.geometry, LabelTable.numbered([1]))
    labels.array[2:5, 1:4, 1:3] = 1
    for folder, names in (("images", ("a.nii.gz",)), ("labels", ("a.nii.gz",))):
        for name in names:
            write(labels, tmp_path / folder / name)
    write(labels, tmp_path / "far" / "away" / "out" / "a.rtstruct.dcm", source=scan)
    rows = [{"id": "a", "images": ["images/a.nii.gz"], "labels": "labels/a.nii.gz", "split": "test"}]
    card = {"name": "s", "modality": "CT", "labels": [{"value": 1, "name": "label_1"}], "cases": rows}
    write_yaml(tmp_path / "set.yaml", card)
    assert evaluate_pairs(find_pairs(tmp_path / "set.yaml", tmp_path / "far" / "away" / "out")).mean_dice == 1.0


@pytest.mark.parametrize("other", [".coco.json", ".png"])
@pytest.mark.parametrize("yolo_first", [True, False])
def test_outlines_without_their_picture_take_the_grid_of_the_other_mask(tmp_path, other, yolo_first):
    values = np.zeros((20, 30), np.uint8)
    values[2:9, 3:12] = 1
    labels = LabelMap(values[None], Geometry(values.shape), LabelTable(labels=(Label(value=1, name="cell", kind="thing"),)))
    for folder, ending in (("yolo", ".yolo.txt"), ("other", other)):
        write(labels, tmp_path / folder / f"a{ending}")
    (tmp_path / "yolo" / "data.yaml").write_text("names: [cell]")
    folders = (tmp_path / "yolo", tmp_path / "other")[:: 1 if yolo_first else -1]
    assert evaluate_pairs(find_pairs(*folders)).dice[0, 0] == 1
    alone = find_pairs(tmp_path / "yolo" / "a.yolo.txt", tmp_path / "yolo" / "a.yolo.txt")
    with pytest.raises(MissingFileError, match="a picture that is not beside it"):
        alone[0][1]()


@pytest.mark.parametrize(
    ("references", "predictions", "pairs"),
    [
        (["a", "b"], ["a_0000", "b_0000"], ["a", "b"]),
        (["a_0000", "b_0000"], ["a", "b"], ["a_0000", "b_0000"]),
        (["a", "b"], ["a", "b_0000"], ["a", "b"]),
        (["a"], ["a", "a_0000"], ["a"]),
        (["a", "a_0000"], ["a", "a_0000"], ["a", "a_0000"]),
    ],
)
def test_the_number_of_the_first_channel_pairs_with_the_name_without_it(references, predictions, pairs, tmp_path):
    for folder, names in (("ref", references), ("pred", predictions)):
        for name in names:
            mask(tmp_path / folder / f"{name}.nii.gz")
    assert [case for case, _, _ in find_pairs(tmp_path / "ref", tmp_path / "pred")] == pairs
    rows = [{"id": name, "images": [f"ref/{name}.nii.gz"], "labels": f"ref/{name}.nii.gz"} for name in references]
    card = {"name": "s", "modality": "CT", "labels": [{"value": 1, "name": "x"}], "cases": rows}
    write_yaml(tmp_path / "set.yaml", card)
    assert [case for case, _, _ in find_pairs(tmp_path / "set.yaml", tmp_path / "pred")] == pairs


def test_a_folder_for_each_case_with_its_only_mask(tmp_path):
    for name in ("p1/seg.nii.gz", "p2/seg.nii.gz", "flat/p1.nii.gz", "flat/p2.nii.gz", "many/p1/a.nii", "many/p1/b.nii"):
        mask(tmp_path / "r" / name)
    (tmp_path / "ref").mkdir()
    for patient in ("p1", "p2"):
        (tmp_path / "r" / patient).rename(tmp_path / "ref" / patient)
    assert masks_in(tmp_path / "ref") == {name: (tmp_path / "ref" / name / "seg.nii.gz",) for name in ("p1", "p2")}
    assert [case for case, _, _ in find_pairs(tmp_path / "ref", tmp_path / "r" / "flat")] == ["p1", "p2"]
    with pytest.raises(MissingFileError, match="many: holds no mask"):
        masks_in(tmp_path / "r" / "many")
