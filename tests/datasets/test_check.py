import numpy as np
import pytest

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
    assert [(problem.case, problem.kind) for problem in check_manifest(checked)] == [("e", "note"), ("i", "note"), ("b", "error")]
