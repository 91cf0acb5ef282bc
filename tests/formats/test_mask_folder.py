"""A folder of masks, one a structure: names, overlaps, previews beside them, and what is refused."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from voxelry.core.labels import Label, LabelTable
from voxelry.errors import GridMismatchError, LabelError, MissingFileError, ReadError
from voxelry.formats.mask_folder import mask_files, read_mask_folder
from voxelry.formats.reader import read_labels


def save(file, box, affine=None, value=1):
    array = np.zeros((6, 7, 8), np.uint8)
    array[box] = value
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2, 3, 1]) if affine is None else affine), file)
    return array > 0


def test_masks_become_labels_named_after_their_files(tmp_path):
    liver = save(tmp_path / "liver.nii.gz", np.s_[1:4, 1:4], value=255)
    tumour = save(tmp_path / "liver_lesion.nii", np.s_[2:3, 2:3, 2])
    save(tmp_path / "spleen.nii.gz", np.s_[0:0])
    Image.new("RGB", (9, 9)).save(tmp_path / "preview.png")
    (tmp_path / ".hidden.nii.gz").write_bytes(b"")
    (tmp_path / "statistics.json").write_text("{}")
    found = read_mask_folder(tmp_path, None, read_labels)
    assert found.table.names == ("liver", "liver_lesion", "spleen")
    assert len(found.layers) == 2
    np.testing.assert_array_equal(found.mask("liver"), liver)
    np.testing.assert_array_equal(found.mask("liver_lesion"), tumour)
    assert not found.mask("spleen").any()


def test_a_table_says_values(tmp_path):
    liver = save(tmp_path / "Liver.nii.gz", np.s_[1:4, 1:4])
    found = read_mask_folder(tmp_path, LabelTable(labels=(Label(value=9, name="liver"),)), read_labels)
    np.testing.assert_array_equal(found.array == 9, liver)
    with pytest.raises(LabelError, match="Liver"):
        read_mask_folder(tmp_path, LabelTable(labels=(Label(value=9, name="brain"),)), read_labels)


def test_pictures_alone_are_masks(tmp_path):
    Image.fromarray(np.eye(5, dtype=np.uint8)).save(tmp_path / "axon.png")
    found = read_mask_folder(tmp_path, None, read_labels)
    np.testing.assert_array_equal(found.mask("axon"), np.eye(5, dtype=bool))


def test_other_axis_orders_are_turned_and_other_grids_refused(tmp_path):
    first = save(tmp_path / "a.nii.gz", np.s_[1:2])
    flipped = np.diag([-1.0, 2, 3, 1])
    flipped[0, 3] = 5
    save(tmp_path / "b.nii.gz", np.s_[4:5], flipped)
    found = read_mask_folder(tmp_path, None, read_labels)
    np.testing.assert_array_equal(found.mask("b"), first)
    save(tmp_path / "c.nii.gz", np.s_[4:5], np.eye(4))
    with pytest.raises(GridMismatchError, match=r"c\.nii\.gz"):
        read_mask_folder(tmp_path, None, read_labels)


def test_what_is_no_such_folder(tmp_path):
    with pytest.raises(MissingFileError, match="no mask file"):
        read_mask_folder(tmp_path, None, read_labels)
    assert mask_files(tmp_path / "none") == []
    (tmp_path / "bad.nii.gz").write_bytes(b"no voxels")
    with pytest.raises(ReadError, match="bad"):
        read_mask_folder(tmp_path, None, read_labels)
