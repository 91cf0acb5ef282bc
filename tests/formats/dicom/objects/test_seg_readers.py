"""DICOM SEG as other people's programs see it: dcmqi, highdicom, dicom3tools, and the standard's own tables."""

import json
from dataclasses import replace

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from helpers import sources
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.formats.dicom.objects.seg_write import write_dicom_seg, write_fractional_seg

FLAT_FORMS = [("binary", "none"), ("binary", "deflate"), ("labelmap", "none"), ("labelmap", "rle"), ("labelmap", "deflate")]


@pytest.fixture(scope="module", params=sources.SOURCES)
def scan(request, tmp_path_factory):
    return sources.volume(request.param, tmp_path_factory.mktemp("scan"))


def by_dcmqi(folder, geometry):
    """Label name -> mask on the scan's grid, and -> colour, from what dcmqi wrote."""
    masks, colors = {}, {}
    for number, listed in enumerate(json.loads((folder / "m-meta.json").read_text())["segmentAttributes"], start=1):
        image = nib.load(folder / f"m-{number}.nii.gz")
        array = np.asarray(image.dataobj)
        for segment in listed:
            inside = array == segment["labelID"]
            grid = Geometry(array.shape, image.affine)
            one = LabelMap.of(inside.astype(np.uint8), grid, LabelTable.numbered([1]), Source(kind="dicom-seg"))
            masks[segment["SegmentLabel"]] = one.on_grid(geometry).array != 0
            colors[segment["SegmentLabel"]] = tuple(segment["recommendedDisplayRGBValue"])
    return masks, colors


def assert_same(masks, labels, *, absent):
    """Every label that has a voxel came back, voxel for voxel; one without came back empty or, where it may, not at all."""
    for label in labels.table.labels:
        truth = labels.mask(label.name)
        assert label.name in masks or (absent and not truth.any())
        np.testing.assert_array_equal(masks.get(label.name, np.zeros_like(truth)), truth, err_msg=label.name)


@pytest.mark.parametrize("profile", ["archive", "ohif", "slicer"])
def test_dcmqi_reads_overlapping_labels_back(scan, profile, tmp_path, segimage2itkimage):
    labels = sources.labels(scan.geometry)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm", profile=profile)
    masks, colors = by_dcmqi(segimage2itkimage(seg, tmp_path / "q"), scan.geometry)
    assert_same(masks, labels, absent=profile != "archive")
    assert colors["liver"] == (221, 130, 101)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "compression"), FLAT_FORMS)
def test_dcmqi_reads_every_form_back(scan, kind, compression, tmp_path, segimage2itkimage):
    labels = sources.flat_labels(scan.geometry)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm", kind=kind, compression=compression)
    masks, _ = by_dcmqi(segimage2itkimage(seg, tmp_path / "q"), scan.geometry)
    assert_same(masks, labels, absent=True)


@pytest.mark.parametrize(("kind", "compression"), FLAT_FORMS)
def test_highdicom_reads_every_form_back(scan, kind, compression, tmp_path):
    labels = sources.flat_labels(scan.geometry)
    seg = hd.seg.segread(write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm", kind=kind, compression=compression))
    volume = seg.get_volume(combine_segments=True)
    grid = Geometry(volume.spatial_shape, flip_lps_ras(volume.affine))
    read = LabelMap.of(volume.array.astype(np.uint8), grid, LabelTable.numbered([1, 2, 3, 4]), Source(kind="dicom-seg"))
    values = np.array([0, *(label.value for label in labels.table.labels)])
    np.testing.assert_array_equal(values[read.on_grid(scan.geometry).array], labels.array)


def test_validators_find_no_error(scan, tmp_path, dciodvfy, dcentvfy):
    labels = sources.labels(scan.geometry)
    for profile in ("archive", "ohif", "slicer"):
        seg = write_dicom_seg(labels, scan, tmp_path / f"{profile}.dcm", profile=profile)
        assert dciodvfy(seg) == []
        assert dcentvfy(seg, *scan.source.files) == []
    fractional = write_fractional_seg(probabilities(scan), sources.FLAT_TABLE, scan, tmp_path / "f.dcm")
    assert dciodvfy(fractional) == []
    assert dcentvfy(fractional, *scan.source.files) == []
    deflated = dcmread(write_dicom_seg(labels, scan, tmp_path / "d.dcm", compression="deflate"))
    deflated.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # dicom3tools cannot inflate
    deflated.save_as(tmp_path / "inflated.dcm")
    assert dciodvfy(tmp_path / "inflated.dcm") == []


# ---- LABELMAP, which no validator knows


MACROS_NOT_FOR_A_LABELMAP_IN_A_PATIENT = {"SegmentIdentificationSequence", "PlanePositionSlideSequence"}
"""Conditional functional groups (PS3.3 table A.51.2-2 and A.51.5): the pixels name the segment; no slide is imaged."""


def items_at(data, path):
    if not path:
        return [data]
    return [item for outer in items_at(data, path[:-1]) for item in outer.get(path[-1], [])]


@pytest.mark.parametrize("compression", ["none", "rle", "deflate"])
def test_a_labelmap_agrees_with_the_tables_of_the_standard(scan, compression, tmp_path):
    labels = sources.flat_labels(scan.geometry)
    data = dcmread(write_dicom_seg(labels, scan, tmp_path / "a.dcm", kind="labelmap", compression=compression))
    modules = get_iod_module_map()[get_sop_class_iod_map()[data.SOPClassUID]]
    attributes = get_module_attribute_map()
    known = {(*row["path"], row["keyword"]) for module in modules for row in attributes[module["key"]]}

    def check(items, path=()):
        for element in items:
            assert (*path, element.keyword) in known
            for item in element.value if element.VR == "SQ" else []:
                check(item, (*path, element.keyword))

    check(data)
    missing = set()
    for module in modules:
        for row in attributes[module["key"]] if module["usage"] == "M" else []:
            for item in items_at(data, row["path"]) if row["type"] in ("1", "2") else []:
                empty = row["keyword"] not in item or (row["type"] == "1" and item[row["keyword"]].is_empty)
                missing |= {(*row["path"], row["keyword"])} if empty else set()
    groups = {"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"}
    macros = {path[1] for path in missing if path[0] in groups and len(path) == 2}
    assert all(path[0] in groups and len(path) == 2 for path in missing)
    shared, frames = data.SharedFunctionalGroupsSequence[0], data.PerFrameFunctionalGroupsSequence
    for macro in macros - MACROS_NOT_FOR_A_LABELMAP_IN_A_PATIENT:  # each is either shared or in every frame
        assert (macro in shared) != all(macro in frame for frame in frames), macro


# ---- references


def test_every_slice_refers_to_what_it_came_from(scan, tmp_path):
    labels = sources.labels(scan.geometry)
    data = dcmread(write_dicom_seg(labels, scan, tmp_path / "a.dcm"))
    instances = {header.SOPInstanceUID: header.SOPClassUID for header in sources.headers(scan)}
    listed = data.ReferencedSeriesSequence[0]
    assert listed.SeriesInstanceUID == scan.source.series_uid
    assert {i.ReferencedSOPInstanceUID: i.ReferencedSOPClassUID for i in listed.ReferencedInstanceSequence} == instances
    assert {i.ReferencedSOPInstanceUID: i.ReferencedSOPClassUID for i in data.SourceImageSequence} == instances
    many = len(instances) < len(scan.source.instances)
    for group in data.PerFrameFunctionalGroupsSequence:
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        place = flip_lps_ras(np.array(group.PlanePositionSequence[0].ImagePositionPatient, float))
        k = round(float(scan.geometry.index(place)[2]))
        assert (image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)) == scan.source.instances[k]
        assert ("ReferencedFrameNumber" in image) == many
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert image.SpatialLocationsPreserved == "YES"
        assert image.ReferencedSOPClassUID == instances[image.ReferencedSOPInstanceUID]
    spacing = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    assert float(spacing) == pytest.approx(scan.geometry.spacing[2])


@pytest.mark.parametrize("kind", ["axial", "oblique", "enhanced"])
def test_a_mended_series_says_which_slices_were_never_stored(kind, tmp_path, dciodvfy, segimage2itkimage):
    scan = sources.volume(kind, tmp_path)
    instances = tuple(None if k in (0, 3) else one for k, one in enumerate(scan.source.instances))
    mended = replace(scan, source=replace(scan.source, instances=instances, repairs=("interpolated 2 slices",)))
    labels = sources.labels(scan.geometry)
    full = replace(labels, layers=np.where(labels.layers == 0, np.array([0, 2], np.uint16)[:, None, None, None], labels.layers))
    seg = write_dicom_seg(full, mended, tmp_path / "a.seg.dcm")
    assert dciodvfy(seg) == []
    masks, _ = by_dcmqi(segimage2itkimage(seg, tmp_path / "q"), scan.geometry)
    assert_same(masks, full, absent=False)
    without = set()
    for group in dcmread(seg).PerFrameFunctionalGroupsSequence:
        place = flip_lps_ras(np.array(group.PlanePositionSequence[0].ImagePositionPatient, float))
        k = round(float(scan.geometry.index(place)[2]))
        assert bool(group.DerivationImageSequence) == (k not in (0, 3))
        without |= {k} if not group.DerivationImageSequence else set()
    assert without == {0, 3}


def test_a_resampled_series_keeps_its_place_and_names_its_instances(tmp_path, dciodvfy, segimage2itkimage):
    """As after the repair of a tilt: no slice of the new grid was ever stored."""
    scan = sources.volume(sources.TILTED, tmp_path)
    affine = np.diag([-0.7, -0.9, 2.0, 1.0])
    affine[:3, 3] = 20, 30, -512
    grid = Geometry((22, 18, 11), affine)
    mended = Volume(
        np.zeros((1, *grid.shape), np.int16),
        grid,
        modality="CT",
        source=replace(scan.source, instances=(None,) * 11, repairs=("resampled a tilt",)),
    )
    array = np.zeros(grid.shape, np.uint16)
    array[3:9, 4:12, 2:10] = 3
    labels = LabelMap.of(array, grid, sources.FLAT_TABLE)
    seg = write_dicom_seg(labels, mended, tmp_path / "a.seg.dcm")
    assert dciodvfy(seg) == []
    masks, _ = by_dcmqi(segimage2itkimage(seg, tmp_path / "q"), grid)
    np.testing.assert_array_equal(masks["liver"], array == 3)
    listed = dcmread(seg).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in listed} == {uid for uid, _ in scan.source.instances}


# ---- lesions and probabilities


def test_each_lesion_is_a_segment_with_a_tracking_uid(tmp_path, dciodvfy, segimage2itkimage):
    scan = sources.volume("axial", tmp_path)
    labels = sources.labels(scan.geometry)
    things = [label.model_copy(update={"kind": "thing"}) if label.name == "lesion" else label for label in labels.table.labels]
    ids = np.zeros(labels.layers.shape, np.uint32)
    ids[1, :8], ids[1, 8:] = 1, 70000
    ids[labels.layers == 0] = 0
    labels = replace(labels, table=LabelTable(labels=tuple(things)), instances=ids)
    seg = write_dicom_seg(labels, scan, tmp_path / "a.seg.dcm")
    assert dciodvfy(seg) == []
    masks, _ = by_dcmqi(segimage2itkimage(seg, tmp_path / "q"), scan.geometry)
    for instance in (1, 70000):
        truth = labels.mask("lesion") & (ids[1] == instance)
        np.testing.assert_array_equal(masks[f"lesion {instance}"], truth)
    segments = dcmread(seg).SegmentSequence
    assert [s.TrackingID for s in segments[-2:]] == ["lesion 1", "lesion 70000"]
    assert len({s.TrackingUID for s in segments}) == len(segments)


def probabilities(scan, seed=0):
    values = np.random.default_rng(seed).random((4, *scan.geometry.shape)).astype(np.float32)
    values[:, ..., 0] = 0
    values[3] = 0
    return Volume(values, scan.geometry, channels=4)


@pytest.mark.parametrize("compression", ["none", "rle", "deflate"])
def test_probabilities_come_back_to_half_a_step(scan, compression, tmp_path):
    given = probabilities(scan)
    seg = hd.seg.segread(write_fractional_seg(given, sources.FLAT_TABLE, scan, tmp_path / "a.dcm", compression=compression))
    assert (seg.SegmentationType, seg.SegmentationFractionalType, seg.MaximumFractionalValue) == (
        "FRACTIONAL",
        "PROBABILITY",
        255,
    )
    volume = seg.get_volume(segment_numbers=[1, 2, 3, 4])
    for channel in range(4):
        grid = Geometry(volume.spatial_shape, flip_lps_ras(volume.affine))
        steps = np.rint(volume.array[..., channel] * 255).astype(np.uint16)
        read = LabelMap.of(steps, grid, LabelTable.numbered(range(1, 256)), Source(kind="dicom-seg")).on_grid(scan.geometry)
        np.testing.assert_allclose(read.array / 255, given.array[channel], atol=0.5 / 255 + 1e-6)
