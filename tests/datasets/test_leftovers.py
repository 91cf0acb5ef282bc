from pathlib import Path

import pytest

from voxelry.base.listing import shown
from voxelry.datasets.cases import FoundFiles
from voxelry.datasets.file_patterns import find_ids
from voxelry.datasets.leftovers import leftovers


def remarks(root: Path, names: list[str], images: list[str], labels=None) -> tuple[str, ...]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return leftovers(FoundFiles(images=images, labels=labels), root, set(find_ids(images[0], root)))


IMAGES = ["i/a.jpg", "i/b.jpg"]
MASKS = ["l/a.png", "l/b.png"]


@pytest.mark.parametrize(
    ("images", "labels", "files"),
    [
        (["i/{id}.jpg"], "l/{id}.png", [*IMAGES, *MASKS]),
        (["i/{id}.jpg"], "l/{id}.png", [*IMAGES, *MASKS, "i/notes.txt", "i/.c.jpg", "j/c.png"]),
        (["i/{id}.jpg"], "i/{id}_m.png", [*IMAGES, "i/a_m.png", "i/b_m.png"]),  # masks beside images
        (["i/{id}_0000.nii", "i/{id}_0001.nii"], None, ["i/a_0000.nii", "i/a_0001.nii"]),
        (["i/{id}_t1.nii"], None, ["i/a_t1.nii", "i/a_t2.nii"]),  # another file of the same case
        (["{id}/ct.nii"], "{id}/seg.nii", ["a/ct.nii", "a/pet.nii", "a/seg.nii", "b/notes.txt"]),
        (["i/{id}.*"], "l/{id}.*", ["i/a.jpg", "i/b.JPG", "i/c.nii.gz", "l/a.png", "l/b.png", "l/c.mha"]),
        (["{id}/ct.nii"], {"per_label": "{id}/{label}.nii"}, ["a/ct.nii", "a/liver.nii"]),
    ],
)
def test_nothing_is_left_over(images, labels, files, tmp_path):
    assert remarks(tmp_path, files, images, labels) == ()


def test_images_of_other_endings_and_masks_without_image(tmp_path):
    files = [*IMAGES, "i/c.JPG", "i/d.jpeg", "i/e.png", *MASKS, "l/c.png", "l/d.png"]
    assert remarks(tmp_path, files, ["i/{id}.jpg"], "l/{id}.png") == (
        "3 images do not fit 'i/{id}.jpg' ('i/{id}.*' takes every ending): i/c.JPG, i/d.jpeg, i/e.png",
        "2 masks have no image: c.png, d.png",
    )


def test_folders_without_the_file(tmp_path):
    files = ["a/ct.nii", "b/CT.nii", "c/ct.nii.gz", "d/notes.txt"]
    assert remarks(tmp_path, files, ["{id}/ct.nii"]) == ("2 images do not fit '{id}/ct.nii': b/CT.nii, c/ct.nii.gz",)


def test_images_of_another_name(tmp_path):
    assert remarks(tmp_path, ["x/i/case_1.nii", "x/i/scan_2.nii"], ["*/i/case_{id}.nii"]) == (
        "1 image does not fit '*/i/case_{id}.nii' ('*/i/case_{id}.*' takes every ending): x/i/scan_2.nii",
    )


def test_masks_by_name_alone_are_named(tmp_path):
    assert leftovers(FoundFiles(images=["{id}.nii"]), _touched(tmp_path, "a.nii", "a_seg.nii"), {"a"}) == (
        "1 file is passed over as masks by name: a_seg.nii",
    )


def _touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).touch()
    return root


def test_many_names_are_cut():
    assert shown([f"n{k}" for k in range(8)]) == "n0, n1, n2, n3, n4 and 3 more"
    assert shown(["a", "b"]) == "a, b"
