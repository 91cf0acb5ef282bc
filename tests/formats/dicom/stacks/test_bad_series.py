"""Every series of the catalogue: known voxels land where they belong, or the right error comes. None is silently wrong."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers import bad_cases, bad_frames, bad_mixtures, bad_places
from helpers.bad_catalogue import CASES as ALL
from helpers.bad_series import AXIAL, GRADIENT, SAGITTAL, Case, Reads, linear, stack, turned, write
from voxelry import errors
from voxelry.core.volume import Volume
from voxelry.errors import ReadError
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read, read_all


@pytest.mark.parametrize("name", ALL)
def test_read(tmp_path: Path, name: str) -> None:
    case = ALL[name]
    truths = case.write(tmp_path)
    if case.one is None:
        volume = read(tmp_path, **case.choices)
        check(volume, truths[0])
        return
    with pytest.raises(ReadError) as caught:
        _ = read(tmp_path, **case.choices).array
    assert isinstance(caught.value, getattr(errors, case.one.error)), caught.value
    message = str(caught.value)
    assert re.search(case.one.says, message), message
    assert caught.value.remedy
    assert not re.search("Nobody|SECRET42", message)
    listed = {Path(file).name for file in getattr(caught.value, "files", ())}
    assert not case.one.files or listed == set(case.one.files)


@pytest.mark.parametrize("name", [name for name, case in ALL.items() if case.one is None or case.one.error == "SeriesError"])
def test_read_all(tmp_path: Path, name: str) -> None:
    case = ALL[name]
    truths = case.write(tmp_path)
    if not truths:
        with pytest.raises(ReadError):
            _ = [volume.array for volume in read_all(tmp_path, **case.choices)]
        return
    volumes = read_all(tmp_path, **case.choices)
    assert len(volumes) == len(truths)
    for truth in truths:
        (volume,) = [volume for volume in volumes if is_of(volume, truth)]
        check(volume, truth)


KNOWN_FROM_HEADERS = ("MissingSlicesError", "DuplicateSlicesError", "SpacingError", "SeriesError")


@pytest.mark.parametrize("name", [name for name, case in ALL.items() if not case.choices])
def test_inspect_says_what_read_does(tmp_path: Path, name: str) -> None:
    case = ALL[name]
    truths = case.write(tmp_path)
    rows = [row for row in inspect(tmp_path) if row.format == "dicom" and row.modality != "SR"]
    if case.one is None or truths:
        assert [row.readable for row in rows] == [True] * len(truths), [row.reason for row in rows]
        assert {row.shape[1:] for row in rows} == {truth.shape for truth in truths}
    elif case.one.error in KNOWN_FROM_HEADERS:
        assert not any(row.readable for row in rows)
        assert all(row.reason for row in rows)


def is_of(volume: Volume, truth: Reads) -> bool:
    """The volume that holds the marked values of a truth."""
    return truth.linear or {value for value, _ in truth.points} <= set(volume.array.ravel().tolist())


def check(volume: Volume, truth: Reads) -> None:
    array = volume.array[0]
    assert truth.points or truth.linear
    for value, where in truth.points:
        found = np.argwhere(array == value)
        assert len(found) == 1, f"{value} occurs {len(found)} times"
        np.testing.assert_allclose(volume.geometry.world(found[0]), where, atol=truth.tolerance)
    if truth.linear:
        check_linear(volume, array, truth)
    assert truth.shape is None or array.shape == truth.shape
    assert truth.dtype in ("", array.dtype.name)
    for said, what in ((volume.source.remarks, truth.remark), (volume.source.repairs, truth.repair)):
        assert re.search(what, "; ".join(said)), said
    assert bool(volume.source.repairs) == bool(truth.repair)
    missing = sum(instance is None for instance in volume.source.instances)
    assert len(volume.source.instances) == array.shape[2]
    assert missing == truth.interpolated or truth.interpolated < 0


def check_linear(volume: Volume, array: NDArray[np.int16], truth: Reads) -> None:
    """Every voxel that is not padding says where it lies, to a rounding of stored and interpolated values."""
    index = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij"), axis=-1)
    expected = volume.geometry.world(index) @ GRADIENT
    scan = array != array.min()
    assert volume.geometry.is_orthogonal or not any("upright" in repair for repair in volume.source.repairs)
    assert np.count_nonzero(scan) >= truth.voxels
    np.testing.assert_allclose(array[scan], expected[scan], atol=1.1)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, turned(20, 10, -5)], ids=["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("tilt", [0, 15, -15, -20])
def test_a_tilt_is_sheared_as_monai_does(tmp_path: Path, tilt: float, orientation: tuple[float, ...]) -> None:
    """Of the readers compared, MONAI's alone is right for both signs."""
    from monai.data import PydicomReader

    write(stack(tilt=tilt, orientation=orientation), tmp_path)
    reader = PydicomReader()
    array, meta = reader.get_data(reader.read(str(tmp_path)))
    volume = read(tmp_path)
    np.testing.assert_allclose(volume.geometry.affine, meta["affine"], atol=1e-3 / 9)
    np.testing.assert_array_equal(volume.array[0], array)


@pytest.mark.parametrize("tilt", [-15, -20])
def test_an_upright_grid_is_that_of_dcm2niix(tmp_path: Path, dcm2niix: Path, tilt: float) -> None:
    """For these signs it is right (at +15 degrees it puts voxels 8.65 mm off)."""
    write(stack(8, (40, 44), tilt=tilt, scene=linear, spacing=(1.0, 1.0)), tmp_path / "scan")
    subprocess.run([dcm2niix, "-o", tmp_path, "-f", "x", tmp_path / "scan"], check=True, capture_output=True, timeout=60)
    theirs = read(tmp_path / "x_Tilt_1.nii")
    ours = read(tmp_path / "scan", repair="tilt")
    change = theirs.geometry.reindexing_to(ours.geometry)
    assert change is not None
    assert theirs.geometry.reindexed(change).distance(ours.geometry) < 1e-3
    apart = np.abs(change.apply(theirs.array).astype(float) - ours.array)
    assert np.mean(apart <= 1) > 0.9  # it fills the rows at the rim otherwise


def test_the_catalogue_is_large_and_every_name_its_own() -> None:
    assert all(module.__doc__ for module in (bad_cases, bad_places, bad_mixtures, bad_frames))
    assert len(ALL) >= 30
    assert all(isinstance(case, Case) for case in ALL.values())
