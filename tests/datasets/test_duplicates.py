import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers.scans import image, save
from voxelry.core.geometry import Geometry
from voxelry.core.volume import Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.duplicates import refuse_shared_files, voxel_digest
from voxelry.errors import SplitLeakError


def digest(array):
    return voxel_digest(Volume(array, Geometry.from_spacing(array.shape[1:], (1, 1, 1)), channels=len(array)))


@given(arrays(np.int16, (2, 3, 2, 4)), arrays(np.int16, (2, 3, 2, 4)))
def test_digests_are_equal_exactly_where_values_are(one, other):
    blank = [len(np.unique(array)) == 1 for array in (one, other)]
    assert [digest(array) == "" for array in (one, other)] == blank
    if not any(blank):
        assert (digest(one) == digest(other)) == bool((one == other).all())
        assert digest(one) == digest(one.astype(np.float64)) == digest(np.asfortranarray(one))


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_order_and_direction_of_axes_do_not_matter(order, flips):
    volume = Volume(np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4), Geometry.from_spacing((2, 3, 4), (1, 2, 3)))
    codes = "".join("RAS"[axis] if not flip else "LPI"[axis] for axis, flip in zip(order, flips, strict=True))
    change = volume.geometry.reindexing_to_orientation(codes)
    assert voxel_digest(volume.reindexed(change)) == voxel_digest(volume)


def test_a_picture_has_a_digest_too():
    picture = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    assert voxel_digest(Volume(picture, Geometry((3, 4)))) == voxel_digest(Volume(picture.astype(float), Geometry((3, 4))))
    assert digest(np.zeros((1, 2, 2, 2))) == digest(np.full((1, 2, 2, 2), -1.5)) == ""
    minus = np.array([[[[0.0, 1.0]]]])
    assert digest(minus) == digest(np.copysign(minus, [[[[-1, 1]]]]))


def case(file, id="", split="train", group=""):
    return Case(id or file.name, (file,), split=split, group=group or id or file.name)


@pytest.mark.parametrize("copy", ["path", "link", "hard link", "bytes"])
def test_the_same_file_on_two_sides_is_refused(copy, tmp_path):
    first = save(tmp_path / "first.nii", image())
    second = tmp_path / "second.nii"
    if copy == "path":
        second = first
    elif copy == "link":
        second.symlink_to(first)
    elif copy == "hard link":
        os.link(first, second)
    else:
        second.write_bytes(first.read_bytes())
    cases = [case(first, "a"), case(second, "b", "val")]
    with pytest.raises(SplitLeakError, match=r"set.yaml: cases 'a' \(train\) and 'b' \(val\) are the same image.*Delete one"):
        refuse_shared_files(cases, "set.yaml")
    for allowed in (replace(cases[1], split="train"), replace(cases[1], split=None), replace(cases[1], group="a")):
        refuse_shared_files([cases[0], allowed], "set.yaml")


def test_only_whole_equal_files_are_the_same(tmp_path):
    head = bytes(2 << 20)  # longer than what is looked at first
    files = [tmp_path / f"{n}.raw" for n in range(3)]
    for n, file in enumerate(files):
        file.write_bytes(head + bytes([n % 2]))
    refuse_shared_files([case(files[0]), case(files[1], split="val")], "set.yaml")
    with pytest.raises(SplitLeakError, match=r"'0.raw' \(train\) and '2.raw' \(test\)"):
        refuse_shared_files([case(files[0]), case(files[1], split="val"), case(files[2], split="test")], "set.yaml")
    two = [Case("x", (files[0], files[1]), split="train", group="x"), Case("y", (files[2], files[0]), split="val", group="y")]
    refuse_shared_files(two, "set.yaml")  # one channel in common
