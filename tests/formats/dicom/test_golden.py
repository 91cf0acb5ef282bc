"""Every DICOM series among the real scans: the outcome is known and reviewed, and agrees with other readers where they agree."""

from __future__ import annotations

import itertools
import json
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from helpers.golden import FILE, outcomes
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.formats.dicom.scan import scan_headers
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read

AGREE_MM = 1e-3
ROUNDING = 1e-6
"""Relative: grey values with a fractional slope are float32 here and there."""

Answer = tuple[np.ndarray, Geometry]


@pytest.mark.realdata
def test_every_outcome_is_the_reviewed_one(realdata):
    golden = json.loads(FILE.read_text())
    assert [name for name, entry in golden.items() if len(entry.pop("review")) < 10] == []
    found = json.loads(json.dumps(outcomes(realdata / "dicom")))
    assert set(found) == set(golden)
    assert found == golden


@pytest.mark.realdata
def test_no_file_of_any_series_is_lost(realdata):
    """What pydicom finds file by file; `SERIES.json` beside the scans, made by another program, lists no other series."""
    place = realdata / "dicom" / "dev"
    expected: dict[str, set[Path]] = {}
    for file in sorted(path for path in place.rglob("*") if path.is_file()):
        try:
            data = pydicom.dcmread(file, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            continue
        expected.setdefault(str(data.SeriesInstanceUID), set()).add(file)
    found = scan_headers(place)
    seen: dict[str, set[Path]] = {}
    for header in (*found.planes, *found.other_objects):
        seen.setdefault(header.series, set()).add(header.path)
    for broken in found.unreadable:
        seen.setdefault(broken.series, set()).add(broken.path)
    assert seen == expected
    listed = [series["uid"] for file in place.glob("*/SERIES.json") for series in json.loads(file.read_text())]
    assert set(seen) == set(listed)


def by_simpleitk(files: Sequence[str]) -> Answer:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    image = reader.Execute() if len(files) > 1 else sitk.ReadImage(files[0])
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, Geometry(image.GetSize(), flip_lps_ras(affine))


def by_highdicom(files: Sequence[str]) -> Answer:
    loaded = [pydicom.dcmread(file) for file in files]
    single = len(loaded) == 1
    volume = highdicom.Image.from_dataset(loaded[0]).get_volume() if single else highdicom.get_volume_from_series(loaded)
    return volume.array, Geometry(volume.array.shape, flip_lps_ras(volume.affine))


def by_dcm2niix(program: Path, files: Sequence[str], folder: Path) -> Answer:
    (folder / "in").mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / "in" / f"{number}.dcm").symlink_to(file)
    line = [str(program), "-b", "n", "-z", "n", "-o", str(folder), str(folder / "in")]
    subprocess.run(line, capture_output=True, timeout=120, check=False)
    (written,) = folder.glob("*.nii")
    image = nibabel.load(written)
    return np.asanyarray(image.dataobj), Geometry(image.shape, image.affine)


def agree(one: Answer, other: Answer, counts: np.ndarray) -> bool:
    """The same grid, in whatever order of axes, and the same values where they count."""
    change = other[1].reindexing_to(one[1])
    if change is None or other[1].reindexed(change).distance(one[1]) > AGREE_MM:
        return False
    return np.allclose(change.apply(other[0])[counts], one[0][counts], rtol=ROUNDING, atol=0)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore")
def test_where_other_readers_agree_so_do_we(realdata, dcm2niix, tmp_path):
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    agreed = {"SimpleITK": 0, "highdicom": 0, "dcm2niix": 0}
    for number, row in enumerate(inspect(realdata / "dicom")):
        if row.format != "dicom" or not row.readable or len(row.shape) != 4:
            continue
        volume = read(row.path, series=row.key or None)
        counts = np.ones(volume.geometry.shape, bool) if volume.padding is None else ~volume.padding
        ours = volume.array[0].astype(np.float64), volume.geometry
        files = list(volume.source.files)
        answers = {}
        for name, reading in (
            ("SimpleITK", lambda files=files: by_simpleitk(files)),
            ("highdicom", lambda files=files: by_highdicom(files)),
            ("dcm2niix", lambda files=files, number=number: by_dcm2niix(dcm2niix, files, tmp_path / str(number))),
        ):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    answers[name] = reading()
            except Exception:  # noqa: BLE001 - whatever another reader raises, it has no answer
                continue
        for one, other in itertools.combinations(answers, 2):
            onto = answers[one][1].reindexing_to(volume.geometry)
            if onto is None:
                continue
            laid = onto.apply(answers[one][0]), answers[one][1].reindexed(onto)
            if agree(laid, answers[other], counts):
                for name in (one, other):
                    assert agree(ours, answers[name], counts), f"{row.path} {row.key}: not as {name}"
                    agreed[name] += 1
    assert agreed["SimpleITK"] >= 50
    assert agreed["dcm2niix"] >= 40
    assert agreed["highdicom"] >= 20
