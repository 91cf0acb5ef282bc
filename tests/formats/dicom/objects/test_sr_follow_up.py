"""Reports over dates: refused where they would mix patients; content is tested with the cohort that writes them."""

from dataclasses import replace
from datetime import date

import highdicom as hd
import pytest
from pydicom import dcmread

from helpers import sources
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.seg_write import write_dicom_seg
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.dicom.objects.sr_follow_up import MeasuredDate, write_follow_up_sr


@pytest.fixture
def dates(tmp_path):
    """One scan at two dates, of which the second has another label table."""
    scan = sources.volume("axial", tmp_path)
    labels = sources.labels(scan.geometry)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm")
    return [MeasuredDate(day, labels, scan, seg) for day in (date(2026, 1, 5), date(2026, 4, 7))]


def test_each_group_has_its_time_point(dates, tmp_path, dciodvfy):
    path = write_follow_up_sr(dates, tmp_path / "f.sr.dcm", algorithm=Algorithm("torso", "7"), series_description="Course")
    assert dciodvfy(path) == []
    data = dcmread(path)
    assert (data.SeriesDescription, data.PatientID) == ("Course", sources.SECRET_ID)
    assert "torso" in str(data)
    groups = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    points = []
    for group in groups:
        items = {item.name.meaning: item for item in group[0].ContentSequence if hasattr(item, "name")}
        offset = items["Longitudinal Temporal Offset from Event"]
        points.append((items["Time Point"].value, int(items["Time Point Order"].value), float(offset.value)))
    half = len(groups) // 2
    assert points == [("2026-01-05", 1, 0.0)] * half + [("2026-04-07", 2, 92.0)] * half


def test_scans_of_two_patients_are_refused(dates, tmp_path):
    other = sources.volume("sagittal", tmp_path / "other" if (tmp_path / "other").mkdir() is None else tmp_path)
    for file in other.source.files:
        header = dcmread(file)
        header.PatientID = "Anders"
        header.save_as(file)
    labels = sources.labels(other.geometry)
    seg = write_dicom_seg(labels, other, tmp_path / "b.seg.dcm")
    mixed = [dates[0], replace(dates[1], labels=labels, scan=other, segmentation=seg)]
    with pytest.raises(ExportError, match="2 patients") as caught:
        write_follow_up_sr(mixed, tmp_path / "f.sr.dcm")
    assert sources.SECRET_ID not in str(caught.value)
    assert not (tmp_path / "f.sr.dcm").exists()
