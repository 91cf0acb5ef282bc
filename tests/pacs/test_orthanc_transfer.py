"""A real archive: 24 slices and every kind of object, sent, queried and fetched by DICOMweb and by DIMSE, are identical."""

import pytest
from pydicom import dcmread

import voxelry
from helpers.archive_study import SLICES, objects, slices
from helpers.orthanc import CALLERS
from voxelry.errors import PacsError

pytestmark = pytest.mark.slow

WAYS = ("web", "dimse")
NEWER = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation: newer than this Orthanc, which takes it, and sends it by DICOMweb and C-MOVE, not by C-GET."""


@pytest.fixture(scope="module")
def study(archive, tmp_path_factory):
    """SOPInstanceUID -> file of what was stored: every second slice by either way, every object by both."""
    folder = tmp_path_factory.mktemp("study")
    scan = slices(folder)
    files = [*scan, *objects(voxelry.read(scan[0].parent), folder)]
    headers = {file: dcmread(file, stop_before_pixels=True) for file in files}
    for number, way in enumerate(WAYS):
        share = [*scan[number::2], *files[SLICES:]]
        with archive.inside():
            sent = voxelry.send(share, getattr(archive, way))
        assert [(each.outcome, each.reason) for each in sent] == [("stored", "")] * len(share)
        assert [each.uid for each in sent] == [headers[file].SOPInstanceUID for file in share]
    return {str(header.SOPInstanceUID): file for file, header in headers.items()}


@pytest.mark.parametrize("way", ["web", "dimse", "move"])
def test_what_was_stored_comes_back_identical(way, study, archive, tmp_path):
    expected = {uid: dcmread(file) for uid, file in study.items()}
    first = next(iter(expected.values()))
    options = {"move_port": CALLERS["VOXELRY"]} if way == "move" else {}
    address = archive.web if way == "web" else archive.dimse
    with archive.inside():
        results = voxelry.fetch(address, tmp_path / "out", study=first.StudyInstanceUID, **options)
        listed = voxelry.fetch(address, study=first.StudyInstanceUID, modality="CT")
    newer = {data.SeriesInstanceUID for data in expected.values() if data.SOPClassUID == NEWER and way == "dimse"}
    assert {each.record.series for each in results if each.error} == newer
    assert all("instances" in each.error or "failed" in each.error for each in results if each.error)
    assert not [file for file in (tmp_path / "out").rglob("*") if file.name.startswith(".") or file.name in newer]
    expected = {uid: data for uid, data in expected.items() if data.SeriesInstanceUID not in newer}
    files = {file.stem: file for each in results for file in each.files}
    assert files.keys() == expected.keys()
    for uid, file in files.items():
        got = dcmread(file)
        assert got == expected[uid]
        assert got.file_meta.TransferSyntaxUID == expected[uid].file_meta.TransferSyntaxUID
        assert file.parts[-3:-1] == (expected[uid].StudyInstanceUID, expected[uid].SeriesInstanceUID)
    [record] = [each.record for each in listed if each.record.series == first.SeriesInstanceUID]
    assert (record.count, record.modality, record.patient) == (SLICES, "CT", first.PatientID)


@pytest.mark.parametrize("way", WAYS)
def test_what_an_archive_does_not_hold_is_said(way, archive, tmp_path):
    with archive.inside(), pytest.raises(PacsError, match="no series that fits"):
        voxelry.fetch(getattr(archive, way), tmp_path / "out", study="1.2.3.4")
    assert not (tmp_path / "out").exists()
