import highdicom as hd
import numpy as np
import pytest
import skimage.color
from pydicom import dcmread
from pydicom.valuerep import PersonName

from helpers.ct_series import CORONAL, ORIENTATIONS, SECRET, ct_series, with_source, x_ray
from voxelry.core.geometry import Geometry, Reindex, flip_lps_ras
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, GridMismatchError, LabelError
from voxelry.formats.dicom.objects.seg_write import write_dicom_seg
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read, read_labels

LEFT = Code(value="7771000", meaning="Left")
KIDNEY = Code(value="64033007", meaning="Kidney")
TABLE = LabelTable(
    labels=(
        Label(value=5, name="kidney left", type=KIDNEY, modifier=LEFT, color=(200, 30, 60)),
        Label(value=300, name="Wirbelkörper L5, oberer Anteil"),
        Label(value=2, name="spleen", type=Code(value="78961009", meaning="Spleen")),
    )
)


def labels_on(volume, seed=0, table=TABLE, skip=(), dtype=np.uint16):
    rng = np.random.default_rng(seed)
    values = [0, *(label.value for label in table.labels if label.value not in skip)]
    array = rng.choice(np.array(values, dtype), volume.geometry.shape)
    return LabelMap.of(array, volume.geometry, table)


def read_back(path, source, table=TABLE):
    """Stored values ``(column, row, slice)`` of a SEG, instance by instance of the source, by highdicom."""
    seg = hd.seg.segread(path)
    frames = seg.get_pixels_by_source_instance(
        [uid for uid, _ in source.source.instances],
        segment_numbers=range(1, len(table) + 1),
        assert_missing_frames_are_empty=True,
        ignore_spatial_locations=False,
    )
    values = np.array([label.value for label in table.labels])
    assert frames.sum(axis=-1).max() <= 1
    return (frames * values).sum(axis=-1).T


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_voxels_come_back_identical(tmp_path, orientation, descending):
    source = ct_series(tmp_path, ORIENTATIONS[orientation], descending=descending)
    labels = labels_on(source)
    path = write_dicom_seg(labels, source, tmp_path / "out.seg.dcm")
    np.testing.assert_array_equal(read_back(path, source), labels.array)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_voxels_lie_where_they_were_in_the_patient(tmp_path, orientation):
    source = ct_series(tmp_path, ORIENTATIONS[orientation])
    labels = labels_on(source)
    path = write_dicom_seg(labels, source, tmp_path / "out.seg.dcm")
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    read = LabelMap.of(
        volume.array.astype(np.uint16),
        Geometry(volume.spatial_shape, flip_lps_ras(volume.affine)),
        LabelTable.numbered([1, 2, 3]),
    )
    values = np.array([0, *(label.value for label in TABLE.labels)])
    np.testing.assert_array_equal(values[read.on_grid(source.geometry).array], labels.array)


def test_a_flipped_and_permuted_mask_is_put_back(tmp_path):
    source = ct_series(tmp_path, CORONAL)
    labels = labels_on(source)
    change = Reindex((2, 0, 1), (True, False, True))
    turned = LabelMap.of(change.apply(labels.array), labels.geometry.reindexed(change), TABLE)
    path = write_dicom_seg(turned, source, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(path, source), labels.array)


def test_absent_labels_are_described_and_have_no_frames(tmp_path):
    source = ct_series(tmp_path)
    labels = labels_on(source, skip=(300,))
    array = labels.array.copy()
    array[:, :, [0, 3]] = 0
    path = write_dicom_seg(LabelMap.of(array, source.geometry, TABLE), source, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(path, source), array)
    seg = dcmread(path)
    assert [item.SegmentLabel for item in seg.SegmentSequence] == list(TABLE.names)
    frames = [item.SegmentIdentificationSequence[0].ReferencedSegmentNumber for item in seg.PerFrameFunctionalGroupsSequence]
    assert sorted(frames) == [1] * 3 + [3] * 3
    referenced = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced == {uid for uid, _ in source.source.instances}


def test_an_empty_mask_is_written(tmp_path):
    source = ct_series(tmp_path)
    labels = LabelMap.of(np.zeros(source.geometry.shape, np.uint8), source.geometry, TABLE)
    path = write_dicom_seg(labels, source, tmp_path / "out.dcm")
    assert not read_back(path, source).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_ignored_voxels_and_other_types(tmp_path, dtype):
    table = LabelTable(labels=(Label(value=3, name="a"), Label(value=1, name="b")), ignore=100)
    source = ct_series(tmp_path)
    array = np.random.default_rng(1).choice(np.array([0, 1, 3, table.ignore], dtype), source.geometry.shape)
    path = write_dicom_seg(LabelMap.of(array, source.geometry, table), source, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(path, source, table), np.where(array == table.ignore, 0, array))


def test_a_single_slice(tmp_path):
    source = ct_series(tmp_path, slices=1)
    labels = labels_on(source)
    path = write_dicom_seg(labels, source, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(path, source), labels.array)


def test_an_x_ray_without_frame_of_reference(tmp_path):
    source = x_ray(tmp_path)
    labels = labels_on(source)
    seg = hd.seg.segread(write_dicom_seg(labels, source, tmp_path / "out.dcm"))
    frames = seg.get_pixels_by_source_instance([source.source.instances[0][0]], segment_numbers=[1, 2, 3])
    np.testing.assert_array_equal((frames[0] * [5, 300, 2]).sum(axis=-1), labels.array)


def test_every_attribute_a_viewer_needs(tmp_path):
    source = ct_series(tmp_path)
    path = write_dicom_seg(
        labels_on(source),
        source,
        tmp_path / "out.dcm",
        algorithm=Algorithm("torso", "7"),
        series_description="Organs",
    )
    seg, scan = dcmread(path), dcmread(source.source.files[0])
    assert seg.SegmentationType == "BINARY"
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "ReferringPhysicianName"):
        assert seg[keyword].value == scan[keyword].value, keyword
    assert seg.SeriesInstanceUID != scan.SeriesInstanceUID
    assert (seg.SeriesDescription, seg.ContentLabel, seg.SeriesNumber) == ("Organs", "SEGMENTATION", 1003)
    shared = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (float(shared.SpacingBetweenSlices), [float(v) for v in shared.PixelSpacing]) == (2.5, [0.9, 0.7])
    place = {
        uid: dcmread(file).ImagePositionPatient
        for file, (uid, _) in zip(source.source.files, source.source.instances, strict=True)
    }
    for frame in seg.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert image.SpatialLocationsPreserved == "YES"
        assert frame.PlanePositionSequence[0].ImagePositionPatient == place[image.ReferencedSOPInstanceUID]


def test_every_segment_says_what_it_is(tmp_path):
    source = ct_series(tmp_path)
    seg = dcmread(write_dicom_seg(labels_on(source), source, tmp_path / "out.dcm", algorithm=Algorithm("torso", "7")))
    kidney, vertebra, spleen = seg.SegmentSequence
    assert [s.SegmentNumber for s in seg.SegmentSequence] == [1, 2, 3]
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("64033007", "SCT", "Kidney")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert "SegmentedPropertyTypeModifierCodeSequence" not in spleen.SegmentedPropertyTypeCodeSequence[0]
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    private = vertebra.SegmentedPropertyTypeCodeSequence[0]
    assert private.CodingSchemeDesignator == "99VOXELRY"
    assert private.CodeMeaning == vertebra.SegmentLabel == TABLE.labels[1].name
    assert len(private.CodeValue) <= 16
    assert seg.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99VOXELRY"
    assert len({s.TrackingUID for s in seg.SegmentSequence}) == 3
    for segment, label in zip(seg.SegmentSequence, TABLE.labels, strict=True):
        assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", "torso")
        assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "7"
        assert segment.TrackingID == label.name
        stored = np.array(segment.RecommendedDisplayCIELabValue, dtype=float) / 65535
        lab = stored * [100, 255, 255] - [0, 128, 128]
        shown = skimage.color.lab2rgb(lab, illuminant="D65") * 255
        np.testing.assert_allclose(shown, label.rgb, atol=2)


def test_scanners_quirks_are_borne(tmp_path):
    def change(header, k):
        for keyword in ("AccessionNumber", "StudyID", "PatientBirthDate", "SliceThickness", "ReferringPhysicianName"):
            del header[keyword]
        header.SpacingBetweenSlices = "99"
        header.ImageOrientationPatient = ["1", "0", "0", "0", "1", f"{k * 2e-6:.6f}"]

    source = ct_series(tmp_path, change=change)
    labels = labels_on(source)
    path = write_dicom_seg(labels, source, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(path, source), labels.array)
    assert float(dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices) == 2.5


@pytest.mark.parametrize("kind", [ct_series, x_ray])
def test_an_independent_validator_finds_no_error(tmp_path, kind, dciodvfy):
    source = kind(tmp_path)
    assert dciodvfy(write_dicom_seg(labels_on(source), source, tmp_path / "out.dcm")) == []


def test_uids_are_fresh(tmp_path):
    source = ct_series(tmp_path)
    one, other = (dcmread(write_dicom_seg(labels_on(source), source, tmp_path / name)) for name in ("a.dcm", "b.dcm"))
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID


def refused(tmp_path, source, match, labels=None, error=ExportError):
    out = tmp_path / "out" / "x.dcm"
    with pytest.raises(error, match=match) as caught:
        write_dicom_seg(labels or labels_on(source), source, out)
    assert SECRET not in str(caught.value)
    assert not out.exists()
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_sources_that_cannot_be_referred_to(tmp_path):
    source = ct_series(tmp_path)
    plain = Volume(source.array, source.geometry)
    refused(tmp_path, plain, "memory.*DICOM")
    reoriented = source.reindexed(Reindex((0, 1, 2), (False, False, True)))
    refused(tmp_path, reoriented, "0 of the scan's 5 slices.*re-oriented")
    instances = (*source.source.instances[:-1], None)
    refused(tmp_path, with_source(source, instances=instances), "4 of the scan's 5 slices")
    refused(tmp_path, with_source(source, files=(*source.source.files[:-1], str(tmp_path / "none.dcm"))), r"none\.dcm.*gone")
    (tmp_path / "text.dcm").write_text("nothing")
    refused(tmp_path, with_source(source, files=(*source.source.files[:-1], str(tmp_path / "text.dcm"))), "not a DICOM file")
    refused(tmp_path, with_source(source, files=source.source.files[:1]), "no file of .* slice 1 was read from")


def test_a_wrong_slice_order_is_never_written(tmp_path):
    source = ct_series(tmp_path)
    turned = with_source(source, files=source.source.files[::-1], instances=source.source.instances[::-1])
    refused(tmp_path, turned, r"lies 10 mm from slice 0")


def test_a_sheared_grid(tmp_path):
    refused(tmp_path, ct_series(tmp_path, shear=0.3), "gantry tilt.*repair 'tilt'.*RTSTRUCT")


def test_labels_that_do_not_fit(tmp_path):
    source = ct_series(tmp_path)
    shape = source.geometry.shape
    wrong = LabelMap.of(np.full(shape, 7, np.uint8), source.geometry, TABLE)
    refused(tmp_path, source, "values 7", wrong, LabelError)
    elsewhere = LabelMap.of(np.zeros(shape, np.uint8), Geometry.from_spacing(shape, (1, 1, 1)), TABLE)
    refused(tmp_path, source, "mm apart", elsewhere, GridMismatchError)
    layered = TABLE.model_copy(update={"labels": (*TABLE.labels, Label(value=1, name="over", layer=1))})
    refused(tmp_path, source, "2 layers", LabelMap.of(np.zeros(shape, np.uint8), source.geometry, layered))
    refused(tmp_path, source, "table is empty", LabelMap.of(np.zeros(shape, np.uint8), source.geometry, LabelTable(labels=())))


def test_texts_that_dicom_cannot_hold(tmp_path):
    source = ct_series(tmp_path)
    for text in ("", "x" * 65, "a\\b"):
        with pytest.raises(ExportError, match="1 to 64"):
            write_dicom_seg(labels_on(source), source, tmp_path / "out.dcm", algorithm=Algorithm(text))


@pytest.mark.parametrize(("name", "written"), [("a\\b", "a/b"), ("a\nb\x1bc", "a b c")])
def test_a_label_name_that_dicom_cannot_hold(tmp_path, name, written):
    table = LabelTable(labels=(Label(value=1, name=name),))
    source = ct_series(tmp_path)
    seg = dcmread(write_dicom_seg(labels_on(source, table=table), source, tmp_path / "out.dcm"))
    assert seg.SegmentSequence[0].SegmentLabel == written


def test_a_series_without_frame_of_reference_gets_a_steady_one(tmp_path, caplog):
    def drop(header, k):
        del header.FrameOfReferenceUID

    source = ct_series(tmp_path, change=drop)
    labels = labels_on(source)
    paths = [write_dicom_seg(labels, source, tmp_path / name) for name in ("a.dcm", "b.dcm")]
    assert "no FrameOfReferenceUID" in caplog.text
    assert len({dcmread(path).FrameOfReferenceUID for path in paths}) == 1
    np.testing.assert_array_equal(read_back(paths[0], source), labels.array)


def test_series_that_lack_what_a_seg_must_copy(tmp_path):
    def drop_place(header, k):
        del header.ImagePositionPatient

    def drop_study(header, k):
        del header.StudyInstanceUID

    def mix(header, k):
        header.FrameOfReferenceUID = f"1.2.{k // 3}"

    refused(tmp_path, ct_series(tmp_path, change=drop_place), "its position in the patient")
    refused(tmp_path, ct_series(tmp_path, change=mix), "2 different values of FrameOfReferenceUID")
    refused(tmp_path, ct_series(tmp_path, change=drop_study), "no StudyInstanceUID")


def test_invalid_identifiers_neither_stop_the_export_nor_leak(tmp_path, recwarn, caplog):
    def spoil(header, k):
        header["PatientBirthDate"]._value = "1901-secret"
        header["StudyTime"]._value = "secret"
        header["AccessionNumber"]._value = "secret" * 9
        header["PatientID"]._value = "secret" * 20
        header["PatientName"]._value = PersonName("secret" * 20)

    source = ct_series(tmp_path, change=spoil)
    labels = labels_on(source)
    recwarn.clear()
    path = write_dicom_seg(labels, source, tmp_path / "out.dcm")
    assert not [str(warning.message) for warning in recwarn]
    assert "PatientBirthDate" in caplog.text
    assert "secret" not in caplog.text
    np.testing.assert_array_equal(read_back(path, source), labels.array)


def test_an_x_ray_with_a_frame_of_reference(tmp_path):
    def change(header):
        header.FrameOfReferenceUID = "1.2.3.4"

    source = x_ray(tmp_path, change)
    labels = labels_on(source)
    seg = hd.seg.segread(write_dicom_seg(labels, source, tmp_path / "out.dcm"))
    frames = seg.get_pixels_by_source_instance([source.source.instances[0][0]], segment_numbers=[1, 2, 3])
    np.testing.assert_array_equal((frames[0] * [5, 300, 2]).sum(axis=-1), labels.array)


SIZES = {
    "PixelSpacing": {"PixelSpacing": [0.15, 0.16]},
    "ImagerPixelSpacing": {"ImagerPixelSpacing": [0.2, 0.21]},
    "both": {"PixelSpacing": [0.13, 0.14], "ImagerPixelSpacing": [0.2, 0.21]},
    "magnified": {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 1.25},
    "zero": {"PixelSpacing": [0, 0]},
    "zero, at the imager": {"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.2]},
    "negative": {"PixelSpacing": [-1, 0.2]},
    "one": {"PixelSpacing": 0.2},
    "thick": {"PixelSpacing": [0.1, 0.1], "SliceThickness": 40, "SpacingBetweenSlices": 0},
    "framed": {"PixelSpacing": [0.1, 0.1], "FrameOfReferenceUID": "1.2.3"},
    "none": {},
}


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("size", SIZES)
def test_a_radiograph_has_the_pixel_size_of_its_scan_or_none(tmp_path, dciodvfy, size, kind):
    """As highdicom and we read it; whatever the file has."""

    def change(header):
        del header.ImagerPixelSpacing
        for keyword, value in SIZES[size].items():
            setattr(header, keyword, value)

    x_ray(tmp_path, change)
    source = read(tmp_path / "x.dcm")
    path = write_dicom_seg(labels_on(source), source, tmp_path / "out.dcm", kind=kind)
    found = read_labels(path, TABLE)
    np.testing.assert_array_equal(found.array, labels_on(source).array)
    assert not found.source.remarks
    if source.spacing is None:
        assert found.geometry.spacing is None
    else:
        np.testing.assert_allclose(found.geometry.spacing, source.spacing, rtol=1e-9)
    seg = hd.seg.segread(path)
    pixels = seg.get_pixels_by_source_instance([source.source.instances[0][0]], segment_numbers=[1, 2, 3])
    np.testing.assert_array_equal((pixels[0] * [5, 300, 2]).sum(axis=-1), labels_on(source).array)
    measures = seg.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
    assert (measures is None) == (source.spacing is None)
    if kind == "binary":
        assert dciodvfy(path) == []


@pytest.mark.realdata
def test_real_series_carry_their_masks(realdata, tmp_path):
    """On every real volume that is read, a mask written as SEG comes back voxel for voxel, by our reader and by highdicom."""
    carried, refused = 0, []
    for found in inspect(realdata / "dicom"):
        if not (found.readable and found.format == "dicom" and found.kind == "image" and found.orientation):
            continue
        source = read(found.path, series=found.key or None)
        array = np.random.default_rng(carried).choice(np.array([0, 5, 300], np.uint16), source.geometry.shape, p=(0.6, 0.2, 0.2))
        labels = LabelMap.of(array, source.geometry, TABLE)
        try:
            path = write_dicom_seg(labels, source, tmp_path / f"{carried}.seg.dcm")
        except ExportError as error:
            refused.append(str(error))
            continue
        np.testing.assert_array_equal(read_labels(path, TABLE).on_grid(source.geometry).array, array)
        if len({uid for uid, _ in source.source.instances}) == len(source.source.instances):
            np.testing.assert_array_equal(read_back(path, source), array)
        carried += 1
    assert carried >= 8
    # tilted series, and a series that claims to be of three studies
    assert all("gantry tilt" in reason or "different values of" in reason for reason in refused), refused
