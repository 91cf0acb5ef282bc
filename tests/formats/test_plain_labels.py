"""Labels of files of one number a voxel: thresholds of probabilities, and what is no threshold."""

import math

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import voxelry
from voxelry.errors import UsageError, VoxelryError
from voxelry.formats.reader import read_labels


def save(file, values):
    nibabel.save(nibabel.Nifti1Image(np.asarray(values, np.float32).reshape(2, 2, -1), np.eye(4)), file)
    return file


@pytest.mark.parametrize("values", [[0.1, 0.5, 0.7, 1.0], [0.9] * 4, [0, 0, 0, 0.2], [-3, 0, 2, 9], [0, 30, 60, 100]])
@given(threshold=st.floats() | st.sampled_from([0.5, 1.0, 0.0, -1.0, 50.0]))
def test_a_threshold_gives_the_voxels_that_reach_it_or_is_refused(tmp_path_factory, values, threshold):
    file = save(tmp_path_factory.getbasetemp() / "p.nii.gz", values)
    if 0 < threshold <= 1 or min(values) < threshold <= max(values):
        labels = read_labels(file, threshold=threshold).array
        np.testing.assert_array_equal(labels.ravel(), np.float32(values) >= threshold)
    else:
        with pytest.raises(UsageError, match=r"p\.nii\.gz: a threshold of"):
            read_labels(file, threshold=threshold)


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf, 1.5, 50.0, 0.0, -0.1])
def test_no_mask_is_written_by_a_wrong_threshold(tmp_path, threshold):
    with pytest.raises(UsageError, match="threshold"):
        voxelry.convert(save(tmp_path / "p.nii.gz", [0, 0.2, 0.8, 1]), tmp_path / "o.nii.gz", threshold=threshold)
    assert not (tmp_path / "o.nii.gz").exists()


def test_a_folder_of_probabilities_takes_the_threshold(tmp_path):
    (tmp_path / "maps").mkdir()
    save(tmp_path / "maps" / "a.nii.gz", [0, 0.2, 0.8, 1])
    save(tmp_path / "maps" / "b.nii.gz", [0.9, 0.2, 0, 0])
    with pytest.raises(VoxelryError):
        voxelry.convert(tmp_path / "maps", tmp_path / "o.seg.nrrd")
    done = voxelry.convert(tmp_path / "maps", tmp_path / "o.seg.nrrd", threshold=0.5)
    labels = read_labels(done.path)
    np.testing.assert_array_equal(labels.mask("a").ravel(), [False, False, True, True])
    np.testing.assert_array_equal(labels.mask("b").ravel(), [True, False, False, False])
