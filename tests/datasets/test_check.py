from dataclasses import replace

import numpy as np
import pytest
import SimpleITK

from helpers.scans import AFFINE, blob, image, manifest, save
from voxelry.datasets.cases import Case
from voxelry.datasets.check import check_case, check_manifest


@pytest.fixture
def good(tmp_path) -> Case:
    return Case("good", (save(tmp_path / "a.nii.gz", image()),), labels=save(tmp_path / "l.nii.gz", blob()), split="train")


def only(problems):
    (problem,) = problems
    return problem


def test_a_good_set_has_no_problems(good, tmp_path):
    assert check_manifest(manifest(tmp_path, good), deep=True) == []


def test_one_bad_case_hides_no_other(good, tmp_path):
    text = tmp_path / "text.nii.gz"
    text.write_text("not a scan")
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(good.images[0].read_bytes()[:300])
    gone = tmp_path / "gone.nii.gz"
    bad = [Case(path.name[:4], (path,), labels=good.labels) for path in (text, cut, gone)]
    problems = check_manifest(manifest(tmp_path, bad[0], good, *bad[1:]), deep=True)
    assert [(problem.case, problem.kind) for problem in problems] == [("text", "error"), ("cut.", "error"), ("gone", "error")]
    for problem, path in zip(problems, (text, cut, gone), strict=True):
        assert problem.file == str(path)
        assert path.name in problem.message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_voxels_are_found_when_looking_deep(value, good, tmp_path):
    array = image()
    array[2, 2, 2] = value
    case = Case("a", (save(tmp_path / "bad.nii.gz", array),), labels=good.labels)
    assert check_case(case, manifest(tmp_path, case)) == []
    assert "bad.nii.gz" in only(check_case(case, manifest(tmp_path, case), deep=True)).message


def test_what_is_wrong_with_labels_names_the_label_file(good, tmp_path):
    moved = AFFINE.copy()
    moved[2, 3] += 1
    wrong = {
        "moved": (blob(), moved, "its grid"),
        "five": (blob() + np.uint8(5), AFFINE, "label values 5, 6, 8"),
        "half": (blob() * 0.5, AFFINE, "0.5"),
    }
    for name, (array, affine, message) in wrong.items():
        case = Case(name, good.images, labels=save(tmp_path / f"{name}.nii.gz", array, affine))
        problem = only(check_case(case, manifest(tmp_path, case)))
        assert (problem.file, problem.kind) == (str(case.labels), "error")
        assert message in problem.message


def test_channels_and_axes_are_the_cards(good, tmp_path):
    assert "names 2" in only(check_case(good, manifest(tmp_path, good, channels=["a", "b"]))).message
    assert "axes" in only(check_case(good, manifest(tmp_path, good, dimensions=2))).message


def test_empty_labels_are_a_note_and_no_labels_an_error_in_train(good, tmp_path):
    empty = Case("e", good.images, labels=save(tmp_path / "e.nii.gz", blob() * 0))
    ignored = Case("i", good.images, labels=save(tmp_path / "i.nii.gz", np.full(blob().shape, 7, np.uint8)))
    bare, test = Case("b", good.images, split="train"), Case("t", good.images, split="test")
    checked = manifest(tmp_path, empty, ignored, bare, test, ignore=7)
    problems = check_manifest(checked)
    assert [(problem.case, problem.kind) for problem in problems] == [("", "note"), ("e", "note"), ("i", "note"), ("b", "error")]
    assert problems[0].message == "no case to train on: none in 'train' has labels"
    assert [problem.message.rpartition(": ")[2] for problem in problems[1:3]] == ["all are 0", "all are ignored"]
    assert (problems.cases, problems.usable, problems.counts) == (4, 3, "1 train, 1 test, 2 in no split")


def case(folder, name, grey=None, mask=None, split="train", group=""):
    files = (save(folder / f"{name}.nii.gz", image(len(name)) if grey is None else grey),)
    return Case(name, files, labels=save(folder / f"{name}_m.nii.gz", blob() if mask is None else mask), split=split, group=group)


def of_the_set(*cases, folder, deep=True, **card):
    return [
        (problem.kind, problem.message)
        for problem in check_manifest(manifest(folder, *cases, **card), deep=deep)
        if not problem.case
    ]


def test_a_card_of_no_cases_is_an_error(tmp_path):
    ((kind, message),) = of_the_set(folder=tmp_path)
    assert kind == "error"
    assert message == "the card lists no cases. Add `cases`: rows, a table, or patterns of files."


def test_labels_that_no_training_case_has_are_named_and_where_they_are(tmp_path):
    liver = np.where(blob() == 1, np.uint8(1), np.uint8(0))
    training = [case(tmp_path, "a", mask=liver), case(tmp_path, "ab", mask=liver)]
    assert of_the_set(*training, folder=tmp_path) == [
        ("note", "label 'spleen' (3) is in none of 2 training cases, so it cannot be learnt")
    ]
    elsewhere = [case(tmp_path, "abc", split="val"), case(tmp_path, "abcd", split="test")]
    ((_, message),) = of_the_set(*training, *elsewhere, folder=tmp_path)
    assert "(others have it: 1 in val, 1 in test)" in message
    assert of_the_set(*training, case(tmp_path, "abcde"), folder=tmp_path) == []


@pytest.mark.parametrize("value", [0, 7, 9])
def test_masks_of_which_none_teaches_are_an_error_counted(value, tmp_path):
    """All 0, all ignored, and half of each."""
    mask = np.full(blob().shape, 7 if value == 9 else value, np.uint8)
    mask[0] = 0 if value == 9 else value
    cases = [case(tmp_path, "a", mask=mask), case(tmp_path, "ab", mask=mask), case(tmp_path, "abc", split="val")]
    ((kind, message),) = of_the_set(*cases, folder=tmp_path, ignore=7)
    assert (kind, message.partition(". ")[0]) == ("error", "nothing to learn: none of 2 training masks has a labelled voxel")


def flipped(array):
    affine = AFFINE.copy()
    affine[0, 3] += affine[0, 0] * (array.shape[0] - 1)
    affine[0, 0] *= -1
    return array[::-1], affine


COPIES = {
    "the same": lambda array: (array, AFFINE),
    "float64": lambda array: (array.astype(np.float64), AFFINE),
    "flipped": flipped,
    "axes in another order": lambda array: (array.transpose(1, 0, 2), AFFINE[:, [1, 0, 2, 3]]),
    "moved": lambda array: (array, AFFINE + np.eye(4)[:, [3, 0, 1, 2]].T[[2, 1, 0, 3]] * 0),
}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("name", COPIES)
def test_the_same_image_on_two_sides_of_a_split_is_an_error_whatever_its_file(name, ending, tmp_path):
    array = image().round()
    first = case(tmp_path, "first", grey=array)
    copied, affine = COPIES[name](array)
    source = SimpleITK.ReadImage(str(save(tmp_path / "copy.nii.gz", np.ascontiguousarray(copied), affine)))
    SimpleITK.WriteImage(source, str(tmp_path / f"second{ending}"))
    mask = save(tmp_path / "mask.nii.gz", np.ones(copied.shape, np.uint8), affine)
    second = Case("second", (tmp_path / f"second{ending}",), labels=mask, split="val")
    ((kind, message),) = of_the_set(first, second, folder=tmp_path)
    assert kind == "error"
    assert message.startswith("2 cases are the same image: first (train), second (val). Delete one")
    assert of_the_set(first, replace(second, split="train"), folder=tmp_path)[0][0] == "note"
    assert of_the_set(first, replace(second, split=None), folder=tmp_path)[0][0] == "note"


def test_other_images_and_blank_ones_are_not_the_same(tmp_path):
    other = image()
    other[0, 0, 0] += 1
    assert of_the_set(case(tmp_path, "a", image()), case(tmp_path, "b", other, split="val"), folder=tmp_path) == []
    blank = np.full(blob().shape, 3, np.int16)
    problems = check_manifest(manifest(tmp_path, case(tmp_path, "c", blank), case(tmp_path, "d", blank, split="val")), deep=True)
    assert [(problem.case, problem.message.partition(":")[0]) for problem in problems] == [
        ("c", "every voxel is 3"),
        ("d", "every voxel is 3"),
    ]


def test_remarks_of_the_manifest_are_notes(tmp_path):
    whole = replace(manifest(tmp_path, case(tmp_path, "a")), remarks=("3 masks have no image: b, c, d",))
    assert [(problem.kind, problem.message) for problem in check_manifest(whole)] == [("note", "3 masks have no image: b, c, d")]
