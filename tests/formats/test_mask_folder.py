"""A folder of masks, one a structure: names, overlaps, previews beside them, and what is refused."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
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


LONG = "lymph_nodes_of_the_mediastinum_station_number_four_on_the_right_side_"


@pytest.mark.parametrize(
    "names",
    [
        (f"{LONG}a.nii.gz", f"{LONG}b.nii.gz"),
        ("liver.nii", "liver.nii.gz"),
        ("a b.nii.gz", "a  b.nii.gz"),
        ("liver.nii.gz", "liver.mha"),
        ("x.nii", "x.nii.gz", "x 1.nii.gz"),
    ],
)
def test_files_of_one_name_are_told_apart(tmp_path, names):
    masks = {}
    for number, name in enumerate(sorted(names)):
        if name.endswith(".mha"):
            inside = np.zeros((6, 7, 8), np.uint8)
            inside[number] = 1
            image = sitk.GetImageFromArray(inside.T)
            image.SetSpacing((1, 2, 3))
            image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
            sitk.WriteImage(image, str(tmp_path / name))
            masks[name] = inside > 0
        else:
            masks[name] = save(tmp_path / name, np.s_[number])
    labels = read_mask_folder(tmp_path, None, read_labels)
    assert len(labels.table) == len(set(labels.table.names)) == len(names)
    for name, label in zip(sorted(names), labels.table.names, strict=True):
        np.testing.assert_array_equal(labels.mask(label), masks[name])
    clashing = [remark for remark in labels.source.remarks if "same name" in remark]
    assert len(clashing) == 2
    assert all(any(remark.startswith(name) for name in names) for remark in clashing)


def test_two_files_of_one_label_of_a_table(tmp_path):
    save(tmp_path / "Liver.nii.gz", np.s_[1])
    save(tmp_path / "liver.nii", np.s_[2])
    with pytest.raises(LabelError, match=r"liver\.nii: is label 'liver'.*Liver\.nii\.gz"):
        read_mask_folder(tmp_path, LabelTable(labels=(Label(value=9, name="liver"),)), read_labels)
    labels = read_mask_folder(
        tmp_path, LabelTable(labels=(Label(value=9, name="liver"), Label(value=4, name="Liver"))), read_labels
    )
    assert (labels.array[1] == 4).all()
    assert (labels.array[2] == 9).all()


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
