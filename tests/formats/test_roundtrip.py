"""Any orientation, flip, spacing, shear and type survives writing by another program and reading by ours, voxel for voxel."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.formats.reader import read, read_labels

EXAMPLES = 40
ORDERS = list(itertools.permutations(range(3)))
DTYPES = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64")
MGH_DTYPES = ("uint8", "int16", "int32", "float32")


@st.composite
def grids(draw, *, shear=True):
    """An affine of any axis order and direction, rotated, scaled, perhaps sheared, and a shape."""
    spacing = np.array([draw(st.floats(0.05, 12.0)) for _ in range(3)])
    angles = [draw(st.sampled_from([0.0, 0.0, 0.3, -1.2, 2.9])) for _ in range(3)]
    rotation = np.eye(3)
    for (i, j), angle in zip([(0, 1), (0, 2), (1, 2)], angles, strict=True):
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ step
    matrix = rotation @ np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    if shear:
        matrix = matrix @ (
            np.eye(3)
            + np.diag([draw(st.sampled_from([0.0, 0.27, -0.4]))], 2)
            + np.diag([0.0, draw(st.sampled_from([0.0, 0.2]))], 1)
        )
    affine = np.eye(4)
    affine[:3, :3] = matrix[:, draw(st.sampled_from(ORDERS))] * spacing
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    shape = tuple(draw(st.integers(1, 5)) for _ in range(3))
    return Geometry(shape, affine)


@st.composite
def voxels(draw, dtypes=DTYPES):
    """A type, and a seed for its values."""
    return draw(st.sampled_from(dtypes)), draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 1, 3]))


def filled(shape, dtype, seed):
    """Values that a float32 holds exactly, over the whole range of small types."""
    kind = np.dtype(dtype)
    low, high = (-(2**24), 2**24) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    values = np.random.default_rng(seed).integers(max(low, -(2**24)), min(high, 2**24), shape, endpoint=True)
    return values.astype(kind)


def check(path, geometry, array, *, tolerance=1e-3):
    """`array` is ``(x, y, z[, c])``."""
    found = read(path)
    expected = array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)
    assert found.shape == expected.shape
    assert found.geometry.distance(geometry) <= tolerance
    np.testing.assert_array_equal(found.array, expected.astype(np.float64))
    assert found.array.dtype in (np.int16, np.float32)


def with_channels(geometry, kind, seed, channels):
    return filled(geometry.shape if channels == 1 else (*geometry.shape, channels), kind, seed)


@settings(max_examples=EXAMPLES)
@given(grids(), voxels(), st.sampled_from([".nii", ".nii.gz", ".img"]), st.sampled_from([1, 2]))
def test_nifti_by_nibabel(geometry, how, ending, version):
    array = with_channels(geometry, *how)
    pair = (nibabel.Nifti1Pair, nibabel.Nifti2Pair) if ending == ".img" else (nibabel.Nifti1Image, nibabel.Nifti2Image)
    with tempfile.TemporaryDirectory() as folder:
        image = pair[version - 1](array, None, dtype=array.dtype)
        image.header.set_sform(geometry.affine, code=1)
        image.to_filename(Path(folder, "a" + ending))
        check(Path(folder, "a" + ending), geometry, array, tolerance=0.01)


@settings(max_examples=EXAMPLES)
@given(grids(), voxels(MGH_DTYPES), st.sampled_from([".mgh", ".mgz"]))
def test_mgh_by_nibabel(geometry, how, ending):
    array = with_channels(geometry, *how)
    with tempfile.TemporaryDirectory() as folder:
        nibabel.MGHImage(array, geometry.affine).to_filename(Path(folder, "a" + ending))
        check(Path(folder, "a" + ending), geometry, array, tolerance=0.01)


SPACES = {"right-anterior-superior": (1, 1, 1), "LPS": (-1, -1, 1), "left-anterior-superior": (-1, 1, 1), "RAS": (1, 1, 1)}


@settings(max_examples=EXAMPLES)
@given(
    grids(), voxels(), st.sampled_from(list(SPACES)), st.sampled_from(["raw", "gzip", "ascii"]),
    st.sampled_from(["little", "big"]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_nrrd_by_pynrrd(geometry, how, space, encoding, endian, detached, first):
    array = with_channels(geometry, *how)
    columns = np.diag(SPACES[space]) @ geometry.affine[:3]
    directions = [*columns[:, :3].T]
    stored = array
    if array.ndim == 4:
        stored = np.moveaxis(array, -1, 0) if first else array
        directions.insert(0 if first else 3, np.full(3, np.nan))
    header = {"space": space, "space directions": np.array(directions), "space origin": columns[:, 3], "encoding": encoding}
    header |= {"endian": endian, "kinds": ["list" if np.isnan(vector).any() else "domain" for vector in directions]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.nhdr" if detached else "a.nrrd")
        nrrd.write(str(path), stored, header, detached_header=detached)
        check(path, geometry, array)


@settings(max_examples=EXAMPLES)
@given(grids(), voxels(), st.sampled_from(["a.mha", "a.mhd", "a.nrrd", "a.nhdr"]), st.booleans(), st.booleans())
def test_metaimage_and_nrrd_by_simpleitk(geometry, how, name, compressed, as_time):
    array = with_channels(geometry, *how)
    image = itk(geometry, array, as_time=as_time)
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(image, str(Path(folder, name)), compressed)
        check(Path(folder, name), geometry, array)


def itk(geometry, array, *, as_time=False):
    """An image of SimpleITK's, channels as components or along a fourth axis."""
    lps = flip_lps_ras(geometry.affine)
    spacing = np.array(geometry.spacing)
    stored = np.ascontiguousarray(array.T if array.ndim == 3 else np.moveaxis(array, (0, 1, 2, 3), (2, 1, 0, 3)))

    def placed(image):
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        return image

    if array.ndim == 3 or not as_time:
        return placed(sitk.GetImageFromArray(stored, isVector=array.ndim == 4))
    parts = [placed(sitk.GetImageFromArray(np.ascontiguousarray(stored[..., index]))) for index in range(stored.shape[-1])]
    return sitk.JoinSeries(parts)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.nii.gz", "a.nii"])
def test_labels_of_every_format_under_any_name(tmp_path, name):
    """A spine with vertebrae 1..9 and discs 201..209, as SPIDER stores it, read as image and as labels; content decides."""
    geometry = Geometry((7, 6, 5), np.array([[0, 0, 1.2, -30], [-0.7, 0.05, 0, 40], [0.05, 0.7, 0, 5], [0, 0, 0, 1.0]]))
    labels = np.random.default_rng(0).choice([0, 1, 2, 9, 201, 209], geometry.shape).astype(np.uint16)
    sitk.WriteImage(itk(geometry, labels), str(tmp_path / name), True)
    other = (tmp_path / name).rename(tmp_path / "scan.png")
    found = read_labels(other)
    np.testing.assert_array_equal(found.array, labels)
    assert found.table.names == ("label_1", "label_2", "label_9", "label_201", "label_209")
    check(other, geometry, labels)
    assert found.geometry.same_grid(read(other).geometry)
