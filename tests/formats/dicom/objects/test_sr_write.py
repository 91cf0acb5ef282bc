"""DICOM SR (TID 1500) as dcmqi, highdicom and dicom3tools see it."""

import json
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from helpers import sources
from helpers.ct_series import SECRET, ct_series, x_ray
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError, GridMismatchError
from voxelry.formats.dicom.objects.seg_write import write_dicom_seg
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.dicom.objects.sr_write import write_dicom_sr
from voxelry.metrics.measurements import measure_labels


def with_lesions(labels):
    """The overlapping label as countable things, two of them."""
    things = [label.model_copy(update={"kind": "thing"}) if label.name == "lesion" else label for label in labels.table.labels]
    ids = np.zeros(labels.layers.shape, np.uint32)
    ids[1, :8], ids[1, 8:] = 1, 9
    ids[labels.layers == 0] = 0
    return replace(labels, table=LabelTable(labels=tuple(things)), instances=ids)


@pytest.fixture(params=sources.SOURCES)
def written(request, tmp_path):
    scan = sources.volume(request.param, tmp_path)
    labels = with_lesions(sources.labels(scan.geometry))
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm")
    return scan, labels, seg, write_dicom_sr(labels, scan, tmp_path / "a.sr.dcm", segmentation=seg)


def test_dcmqi_reads_every_number(written, tmp_path, tid1500reader):
    scan, labels, seg, report = written
    read = json.loads(tid1500reader(report, tmp_path / "m.json").read_text())["Measurements"]
    described = {str(item.TrackingID): item for item in dcmread(seg).SegmentSequence}
    rows = measure_labels(labels, scan)
    assert len(read) == len(rows) == len(described) == 6
    for group, row in zip(read, rows, strict=True):
        name = row.label.name + (f" {row.instance}" if row.instance else "")
        assert group["TrackingIdentifier"] == name
        assert group["TrackingUniqueIdentifier"] == described[name].TrackingUID
        assert group["ReferencedSegment"] == described[name].SegmentNumber
        assert group["segmentationSOPInstanceUID"] == dcmread(seg).SOPInstanceUID
        assert group["SourceSeriesForImageSegmentation"] == scan.source.series_uid
        expected = {("Volume", None, "mm3"): row.volume_mm3}
        if row.axes:
            expected |= {("Long axis", None, "mm"): row.axes.long_mm, ("Short axis", None, "mm"): row.axes.short_mm}
            for how in ("Mean", "Standard Deviation", "Minimum", "Maximum"):
                value = getattr(row.intensity, "sd" if how == "Standard Deviation" else how.lower())
                expected["Attenuation Coefficient", how, "[hnsf'U]"] = value
        found = {
            (
                item["quantity"]["CodeMeaning"],
                item.get("derivationModifier", {}).get("CodeMeaning"),
                item["units"]["CodeValue"],
            ): float(item["value"])
            for item in group["measurementItems"]
        }
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, rel=1e-9)


def test_highdicom_reads_findings_and_sides(written):
    _, _, seg, report = written
    groups = hd.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    lung = groups[2]
    assert (lung.finding_type.value, lung.finding_category.value) == ("39607008", "91723000")
    assert lung.finding_sites[0].laterality.meaning == "Left"
    assert groups[5].finding_category.meaning == "Morphologically Abnormal Structure"
    assert groups[5].finding_sites == []
    assert groups[0].referenced_segment.referenced_sop_instance_uid == dcmread(seg).SOPInstanceUID
    assert "SegmentedPropertyTypeModifierCodeSequence" not in str(dcmread(report))


def test_validators_find_no_error(written, dciodvfy, dcentvfy):
    scan, _, seg, report = written
    assert dciodvfy(report) == []
    assert dcentvfy(report, seg, *scan.source.files) == []


def test_the_report_lists_what_it_refers_to_and_who_made_it(tmp_path):
    scan = sources.volume("axial", tmp_path)
    labels = sources.labels(scan.geometry)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm")
    made = Algorithm("torso", "7")
    data = dcmread(
        write_dicom_sr(
            labels,
            scan,
            tmp_path / "a.sr.dcm",
            segmentation=seg,
            algorithm=made,
            series_description="Sizes",
        )
    )
    assert (data.SeriesDescription, data.SeriesNumber) == ("Sizes", 3003)
    listed = data.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    referred = {item.ReferencedSOPInstanceUID for series in listed for item in series.ReferencedSOPSequence}
    assert str(dcmread(seg).SOPInstanceUID) in referred
    assert "torso" in str(data)
    assert data.PatientID == sources.SECRET_ID


@pytest.mark.parametrize(
    ("modality", "stored", "meaning", "unit"),
    [
        ("MR", {}, "MR signal intensity", "1"),
        ("PT", {}, "Image intensity", "1"),
        ("PT", {"Units": "BQML"}, "Image intensity", "Bq/ml"),
        ("PT", {"Units": "GML"}, "Standardized Uptake Value", "g/ml{SUVbw}"),
        ("PT", {"Units": "GML", "SUVType": "LBM"}, "Standardized Uptake Value", "g/ml{SUVlbm}"),
        ("PT", {"Units": "CM2ML"}, "Standardized Uptake Value", "cm2/ml{SUVbsa}"),
    ],
)
def test_intensities_are_called_what_they_are(tmp_path, modality, stored, meaning, unit, dciodvfy):
    scan = replace(sources.volume("axial", tmp_path), modality=modality)
    for file in scan.source.files:
        header = dcmread(file)
        header.update(stored)
        header.save_as(file)
    labels = sources.flat_labels(scan.geometry)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm")
    report = write_dicom_sr(labels, scan, tmp_path / "a.sr.dcm", segmentation=seg)
    assert dciodvfy(report) == []
    group = hd.sr.srread(report).content.get_volumetric_roi_measurement_groups()[0]
    named = [(m.name.meaning, m.unit.value) for m in group.get_measurements()]
    assert named.count((meaning, unit)) == 4


def test_a_turned_mask_is_measured_in_the_slices_of_the_scan(tmp_path):
    scan = sources.volume("anisotropic", tmp_path)
    labels = sources.flat_labels(scan.geometry)
    change = scan.geometry.reindexing_to_orientation("SAR")
    turned = LabelMap(change.apply(labels.layers), scan.geometry.reindexed(change), labels.table)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm")
    values = []
    for number, one in enumerate((labels, turned)):
        report = hd.sr.srread(write_dicom_sr(one, scan, tmp_path / f"{number}.sr.dcm", segmentation=seg))
        groups = report.content.get_volumetric_roi_measurement_groups()
        values.append([m.value for group in groups for m in group.get_measurements()])
    assert values[0] == values[1]


@pytest.mark.parametrize(
    "names",
    [
        ("A\\B", "A/B", "A/B 1"),
        ("lesion", "lesion 1", "lesion 9"),
        ("x" * 64, "x" * 62 + " 1", "x" * 62 + " 9"),
        ("a", "A", "a "),
    ],
)
@pytest.mark.parametrize("profile", ["archive", "ohif"])
def test_each_group_names_the_segment_it_measured(tmp_path, names, profile):
    """By volume: no two segments are of one size. A label is absent, which some profiles leave out of the SEG."""
    scan = sources.volume("axial", tmp_path)
    array, ids = np.zeros(scan.geometry.shape, np.uint8), np.zeros(scan.geometry.shape, np.uint32)
    array[1:3, 1, 1], array[4:8, 1, 1], array[9:, :2, 1], array[:, 4, 2] = 2, 3, 4, 1
    ids[:5], ids[5:] = 1, 9
    kinds = {"lesion", "x" * 64}
    table = LabelTable(
        labels=(
            Label(value=9, name="absent"),
            *(Label(value=v, name=name, kind="thing" if name in kinds else "stuff") for v, name in enumerate(names, 1)),
            Label(value=4, name="last"),
        )
    )
    labels = LabelMap(array[None], scan.geometry, table, instances=np.where(array, ids, 0)[None])
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm", profile=profile)
    stored = hd.seg.segread(seg)
    report = hd.sr.srread(write_dicom_sr(labels, scan, tmp_path / "a.sr.dcm", segmentation=seg))
    groups = report.content.get_volumetric_roi_measurement_groups()
    numbers = [int(group.referenced_segment.referenced_segment_numbers[0]) for group in groups]
    assert sorted(numbers) == list(stored.segment_numbers)
    for group, number in zip(groups, numbers, strict=True):
        item = stored.get_segment_description(number)
        assert (group.tracking_uid, group.tracking_identifier) == (item.tracking_uid, item.tracking_id)
        volume = next(m.value for m in group.get_measurements() if m.name.meaning == "Volume")
        voxels = stored.get_volume(segment_numbers=[number], combine_segments=False).array.sum()
        assert volume == pytest.approx(voxels * scan.geometry.voxel_volume)


def test_a_seg_of_two_segments_of_one_name_is_ambiguous(tmp_path):
    scan = sources.volume("axial", tmp_path)
    labels = sources.labels(scan.geometry)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm")
    data = dcmread(seg)
    data.SegmentSequence[1].SegmentLabel = data.SegmentSequence[0].SegmentLabel
    data.save_as(seg)
    refused(tmp_path, r"several segments 'liver' \(1, 2\)", labels, scan, seg)


def refused(tmp_path, match, labels, scan, seg, error=ExportError):
    out = tmp_path / "out" / "x.sr.dcm"
    with pytest.raises(error, match=match) as caught:
        write_dicom_sr(labels, scan, out, segmentation=seg)
    assert SECRET not in str(caught.value)
    assert sources.SECRET_ID not in str(caught.value)
    assert not out.exists()


def test_what_cannot_be_reported(tmp_path):
    scan = sources.volume("axial", tmp_path)
    labels = sources.labels(scan.geometry)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm")
    refused(tmp_path, "no such DICOM SEG", labels, scan, tmp_path / "none.dcm")
    refused(tmp_path, "is no DICOM SEG but CT", labels, scan, scan.source.files[0])
    (tmp_path / "text.dcm").write_text("nothing")
    refused(tmp_path, "not a DICOM file", labels, scan, tmp_path / "text.dcm")
    (tmp_path / "other").mkdir()
    other = ct_series(tmp_path / "other")
    table = LabelTable.numbered([1])
    elsewhere = LabelMap.of(np.ones(other.geometry.shape, np.uint8), other.geometry, table)
    refused(tmp_path, "another series", elsewhere, other, seg)
    more = LabelMap.of(np.ones(scan.geometry.shape, np.uint8), scan.geometry, table)
    refused(tmp_path, "has no segment 'label_1'", more, scan, seg)
    wrong = LabelMap.of(np.ones((2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2), (1, 1, 1)), table)
    refused(tmp_path, "different shapes", wrong, scan, seg, GridMismatchError)
    flat = x_ray(tmp_path)
    refused(tmp_path, "projection", LabelMap.of(np.ones(flat.geometry.shape, np.uint8), flat.geometry, table), flat, seg)
