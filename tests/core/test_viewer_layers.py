"""Layers of the viewer: thinning to a size, and files that nibabel reads back."""

import gzip
import math

import nibabel as nib
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry
from voxelry.core.viewer_layers import thinning, viewer_nifti


@given(st.tuples(*[st.integers(1, 60)] * 3), st.tuples(*[st.sampled_from((0.5, 1.0, 3.0))] * 3), st.integers(1, 20_000))
def test_a_grid_is_thinned_no_more_than_needed(shape, spacing, most):
    steps = thinning(Geometry.from_spacing(shape, spacing), most)
    left = math.prod(-(-size // step) for size, step in zip(shape, steps, strict=True))
    assert left <= most
    if math.prod(shape) <= most:
        assert steps == (1, 1, 1)


def test_the_finest_axes_are_thinned_first():
    assert thinning(Geometry.from_spacing((40, 40, 40), (1.0, 1.0, 5.0)), 16_000) == (2, 2, 1)


def test_a_file_says_that_it_holds_labels():
    grid = Geometry.from_spacing((4, 3, 2), (1, 2, 3), (5, 6, 7))
    file = viewer_nifti(np.arange(24, dtype=np.uint8).reshape(4, 3, 2), grid, (1, 1, 1), is_labels=True)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(file))
    assert image.header.get_intent()[0] == "label"
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.affine, grid.affine)
    assert file == viewer_nifti(np.arange(24, dtype=np.uint8).reshape(4, 3, 2), grid, (1, 1, 1), is_labels=True)
