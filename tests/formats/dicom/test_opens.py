"""How often reading opens a DICOM file: once for its header, and once more when its pixels are asked for."""

from __future__ import annotations

import sys
import zipfile
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap
from voxelry.formats.dicom.pixels.decode import MAX_WORKERS
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read, read_all, read_labels
from voxelry.formats.writer import write

SLICES = 6

_watched: list[Counter[str]] = []


def _count(event, arguments):
    if event == "open" and _watched and isinstance(arguments[0], str):
        _watched[-1][arguments[0]] += 1


sys.addaudithook(_count)


@contextmanager
def opens():
    """Counts how often each file is opened."""
    _watched.append(Counter())
    try:
        yield _watched[-1]
    finally:
        _watched.pop()


def large(slices):
    """Slices whose pixels lie beyond the bytes that are read at first."""
    return np.arange(slices * 200 * 210, dtype=np.int16).reshape(slices, 200, 210)


@pytest.fixture
def series(make_slice, save_slice, tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    for number, pixels in enumerate(large(SLICES)):
        save_slice(
            make_slice(pixels, ImagePositionPatient=[0, 0, 2.5 * number], InstanceNumber=number, StudyInstanceUID="1.2.3"),
            folder / f"{number}.dcm",
        )
    return folder


def test_a_single_slice(series):
    file = series / "0.dcm"
    with opens() as header:
        volume = read(file)
    assert header[str(file)] == 1
    with opens() as pixels:
        np.testing.assert_array_equal(volume.array[0, :, :, 0].T, large(1)[0])
    assert pixels[str(file)] == 1


@pytest.mark.parametrize("verb", [read_all, inspect])
def test_a_single_slice_of_other_verbs(series, verb):
    with opens() as counts:
        verb(series / "0.dcm")
    assert counts[str(series / "0.dcm")] == 1


def test_a_folder(series):
    with opens() as header:
        volume = read(series)
    assert [header[str(file)] for file in sorted(series.iterdir())] == [1] * SLICES
    with opens() as pixels:
        assert volume.array.shape == (1, 210, 200, SLICES)
    assert [pixels[str(file)] for file in sorted(series.iterdir())] == [1] * SLICES


def test_an_archive(series, tmp_path):
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for file in series.iterdir():
            archive.write(file, file.name)
    with opens() as counts:
        read(tmp_path / "series.zip")
    assert counts[str(tmp_path / "series.zip")] <= 3  # recognised and listed, then unpacked


def test_a_multiframe_file(make_slice, save_slice, tmp_path):
    frames = []
    for number in range(SLICES):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2.5 * number]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    data = make_slice(
        large(SLICES), SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=SLICES, PerFrameFunctionalGroupsSequence=frames
    )
    file = save_slice(data, tmp_path / "enhanced.dcm")
    with opens() as header:
        volume = read(file)
    assert volume.shape == (1, 210, 200, SLICES)
    assert header[str(file)] == 1
    with opens() as pixels:
        np.testing.assert_array_equal(volume.array[0].T, large(SLICES))
    assert pixels[str(file)] <= MAX_WORKERS < SLICES


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_labels_are_opened_once(series, tmp_path, kind):
    scan = read(series)
    mask = LabelMap.of(np.ones(scan.shape[1:], np.uint8), scan.geometry, LabelTable.numbered([1]))
    file = tmp_path / f"mask.{kind}.dcm"
    write(mask, file, source=scan)
    with opens() as counts:
        read_labels(file, reference=scan if kind == "rtstruct" else None)
    assert counts[str(file)] == 1
