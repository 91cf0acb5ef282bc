"""DICOM SEG as label maps; highdicom writes what is read here, and reads what is compared."""

from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.sr.codedict import codes
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from helpers.ct_series import x_ray
from helpers.sources import volume
from helpers.written import dicom_object
from voxelry.api import convert
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import (
    CorruptFileError,
    GridMismatchError,
    LabelError,
    SeriesError,
    UnsupportedFormatError,
    UsageError,
    VoxelryError,
)
from voxelry.formats.detection import detect
from voxelry.formats.dicom.objects.seg_read import read_dicom_seg
from voxelry.formats.dicom.objects.seg_write import write_dicom_seg
from voxelry.formats.reader import read, read_labels
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.phantom import ACQUISITIONS, make_phantom

SHAPES = {"axial": {}, "coronal": {"axes": "RIA"}, "sagittal": {"axes": "AIR"}, "oblique": {"rotation": (10.0, 20.0, 5.0)}}


@pytest.fixture(params=list(SHAPES))
def case(request, tmp_path):
    """A torso series, its reference, and the SEG of the reference."""
    how = replace(ACQUISITIONS["torso-ct"], spacing=(16.0, 16.0, 20.0), **SHAPES[request.param])
    phantom = make_phantom("torso-ct", 3, how)
    scan = read(write_dicom(phantom, tmp_path / "series")[0])
    labels = phantom.labels.on_grid(scan.geometry)
    return scan, labels, write_dicom_seg(labels, scan, tmp_path / "mask.seg.dcm")


def test_a_mask_comes_back_on_its_scan(case):
    scan, labels, path = case
    found = read_labels(path, labels.table).on_grid(scan.geometry)
    np.testing.assert_array_equal(found.array, labels.array)


def test_slices_know_the_instances_that_they_were_drawn_on(case):
    scan, labels, path = case
    found = read_labels(path, labels.table)
    own = [found.source.instances[k] for k in np.flatnonzero(found.array.any(axis=(0, 1)))]
    drawn = [scan.source.instances[k] for k in np.flatnonzero(labels.array.any(axis=(0, 1)))]
    assert sorted(own) == sorted(drawn)


def test_names_and_codes_come_back(case):
    _, labels, path = case
    assert detect(path).name == "dicom-seg"
    found = read_labels(path).table
    assert found.names == labels.table.names
    assert [(one.category, one.type, one.modifier) for one in found.labels] == [
        (one.category, one.type, one.modifier) for one in labels.table.labels
    ]


@pytest.fixture
def scan(tmp_path):
    phantom = make_phantom("torso-ct", 1, replace(ACQUISITIONS["torso-ct"], spacing=(32.0, 32.0, 40.0)))
    return read(write_dicom(phantom, tmp_path / "series")[0])


def described(number, name, code=codes.SCT.Liver):
    made = hd.AlgorithmIdentificationSequence("test", codes.DCM.ArtificialIntelligence, "1")
    return hd.seg.SegmentDescription(
        number, name, codes.SCT.AnatomicalStructure, code, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, made
    )


def seg_file(scan, pixels, kind, segments, path, **options):
    """A SEG of ``(slices, rows, columns[, segments])`` pixels, by highdicom."""
    images = [dcmread(file) for file in scan.source.files]
    hd.seg.Segmentation(
        images, pixels, kind, segments, hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1", **options
    ).save_as(path)  # fmt: skip
    return path


def random_mask(scan, seed=0):
    mask = np.random.default_rng(seed).random(scan.geometry.shape[::-1]) < 0.3
    mask[0] = mask[-1] = False
    return mask


def test_a_label_map_segmentation(scan, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 3, scan.geometry.shape[::-1]).astype(np.uint8)
    path = seg_file(scan, pixels, "LABELMAP", [described(1, "a"), described(2, "b", codes.SCT.Spleen)], tmp_path / "x.dcm")
    found = read_dicom_seg(path).on_grid(scan.geometry)
    np.testing.assert_array_equal(found.array, pixels.T)
    assert found.table.names == ("a", "b")


def test_segments_that_overlap_lie_on_layers(scan, tmp_path):
    masks = np.stack([random_mask(scan, seed) for seed in range(3)], axis=-1)
    masks[..., 2] &= ~masks[..., 0]
    segments = [described(n, name) for n, name in ((1, "a"), (2, "b"), (3, "c"))]
    path = seg_file(scan, masks.astype(np.uint8), "BINARY", segments, tmp_path / "x.dcm")
    found = read_dicom_seg(path).on_grid(scan.geometry)
    assert [label.layer for label in found.table.labels] == [0, 1, 0]
    for index, name in enumerate("abc"):
        np.testing.assert_array_equal(found.mask(name), masks[..., index].T)
    flat = LabelTable(labels=tuple(Label(value=n, name=name) for n, name in ((7, "a"), (8, "b"), (9, "c"))))
    with pytest.raises(LabelError, match="'b' overlaps"):
        read_labels(path, flat)


def test_segments_take_the_tables_values_by_name_or_code(scan, tmp_path):
    mask = random_mask(scan).astype(np.uint8)
    path = seg_file(scan, mask, "BINARY", [described(1, "Leber")], tmp_path / "x.dcm")
    liver = Label(value=40, name="liver", type={"value": "10200004", "meaning": "Liver"})
    found = read_labels(path, LabelTable(labels=(Label(value=1, name="spleen"), liver))).on_grid(scan.geometry)
    np.testing.assert_array_equal(found.array, mask.T * 40)
    with pytest.raises(LabelError, match=r"x\.dcm.*'Leber'.*spleen"):
        read_labels(path, LabelTable(labels=(Label(value=1, name="spleen"),)))


def test_two_segments_of_one_name_are_told_apart(scan, tmp_path):
    masks = np.stack([random_mask(scan), ~random_mask(scan)], axis=-1).astype(np.uint8)
    path = seg_file(scan, masks, "BINARY", [described(1, "lesion"), described(2, "lesion")], tmp_path / "x.dcm")
    assert read_dicom_seg(path).table.names == ("lesion 1", "lesion 2")


def test_probabilities_are_refused(scan, tmp_path):
    pixels = random_mask(scan).astype(np.float32)
    path = seg_file(scan, pixels, "FRACTIONAL", [described(1, "a")], tmp_path / "x.dcm", max_fractional_value=100)
    with pytest.raises(LabelError, match=r"FRACTIONAL.*threshold"):
        read_labels(path)


def test_another_scan_does_not_take_it(scan, tmp_path):
    path = seg_file(scan, random_mask(scan).astype(np.uint8), "BINARY", [described(1, "a")], tmp_path / "x.dcm")
    elsewhere = scan.geometry.cropped((0, 0, 3), scan.geometry.shape)
    with pytest.raises(GridMismatchError, match="beyond the grid"):
        read_dicom_seg(path).on_grid(elsewhere)
    with pytest.raises(GridMismatchError):
        read_dicom_seg(path).on_grid(scan.geometry.zoomed((9, 9, 9)))


def test_a_truncated_file_is_corrupt(scan, tmp_path):
    path = seg_file(scan, random_mask(scan).astype(np.uint8), "BINARY", [described(1, "a")], tmp_path / "x.dcm")
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.95):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CorruptFileError, match=r"x\.dcm"):
            read_dicom_seg(path)


@pytest.mark.realdata
def test_real_segmentations_are_read_as_highdicom_does_or_refused(realdata: Path):
    seen = 0
    for path in sorted(realdata.joinpath("dicom").rglob("*")):
        if not path.is_file() or path.suffix in (".nrrd", ".json") or dicom_object(path) != "dicom-seg":
            continue
        try:
            found = read_dicom_seg(path)
        except VoxelryError:
            continue
        seen += 1
        check(found, hd.seg.segread(path))
    assert seen >= 4


def check(found: LabelMap, seg: hd.seg.Segmentation) -> None:
    """As many voxels of each segment as highdicom finds, at the same places of the patient."""
    assert sum(np.count_nonzero(layer) for layer in found.layers) == np.count_nonzero(seg.pixel_array)
    if found.geometry.affine is not None and len(seg.segment_numbers) == 1:
        whole = seg.get_volume(combine_segments=False, segment_numbers=list(seg.segment_numbers), allow_missing_positions=True)
        where = np.argwhere(whole.array[..., 0])
        lps = whole.affine[:3, :3] @ where.mean(0) + whole.affine[:3, 3]
        ours = found.geometry.world(np.argwhere(found.array)).mean(0)
        np.testing.assert_allclose(ours * (-1, -1, 1), lps, atol=1e-3)


def test_fractional_segments_are_probabilities_until_a_threshold_is_named(scan, tmp_path):
    pixels = np.random.default_rng(0).random((*scan.geometry.shape[::-1], 2)).astype(np.float32)
    segments = [described(1, "liver"), described(2, "spleen", codes.SCT.Spleen)]
    path = seg_file(scan, pixels, "FRACTIONAL", segments, tmp_path / "x.dcm", max_fractional_value=200)
    found = read(path)
    assert found.shape == (2, *scan.geometry.shape)
    assert found.channel_names == ("liver", "spleen")
    assert found.source.remarks == ("fractional segments: probability",)
    assert found.geometry.reindexing_to(scan.geometry) is not None
    expected = np.round(pixels * 200).astype(np.uint8)
    on_scan = found.geometry.reindexing_to(scan.geometry).apply(found.array)
    np.testing.assert_allclose(on_scan, np.moveaxis(expected, -1, 0).swapaxes(1, 3) / np.float32(200), atol=1e-6)
    labels = read_labels(path, threshold=0.5).on_grid(scan.geometry)
    assert labels.table.names == ("liver", "spleen")
    for index, name in enumerate(labels.table.names):
        np.testing.assert_array_equal(labels.mask(name), on_scan[index] >= 0.5)
    for threshold in (0.0, 1.5):
        with pytest.raises(UsageError, match="threshold"):
            read_labels(path, threshold=threshold)
    binary = seg_file(scan, random_mask(scan).astype(np.uint8), "BINARY", segments[:1], tmp_path / "y.dcm")
    with pytest.raises(UsageError, match=r"threshold 0\.5 for BINARY"):
        read_labels(binary, threshold=0.5)
    with pytest.raises(UsageError, match="Use `read_labels`"):
        read(binary)


CODINGS = [
    *(("LABELMAP", syntax) for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless)),
    *((kind, syntax) for kind in ("LABELMAP", "BINARY") for syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)),
]


@pytest.mark.parametrize(("kind", "syntax"), CODINGS)
def test_every_coding_and_frames_left_out(tmp_path, kind, syntax):
    how = replace(ACQUISITIONS["torso-ct"], spacing=(10.0, 10.0, 60.0))
    scan = read(write_dicom(make_phantom("torso-ct", 1, how), tmp_path / "series")[0])
    pixels = np.random.default_rng(0).integers(0, 3, scan.geometry.shape[::-1]).astype(np.uint8)
    pixels[0] = pixels[2] = pixels[-1] = 0
    by_hand = syntax == DeflatedExplicitVRLittleEndian  # highdicom does not write it
    coded = {} if by_hand else {"transfer_syntax_uid": syntax}
    path = seg_file(scan, pixels, kind, [described(1, "a"), described(2, "b")], tmp_path / "x.dcm", **coded)
    if by_hand:
        data = dcmread(path)
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(path)
    found = read_labels(path).on_grid(scan.geometry)
    np.testing.assert_array_equal(found.array, pixels.T)


def test_colours_and_laterality_of_each_segment(scan, tmp_path):
    first, second = described(1, "left kidney", codes.SCT.Kidney), described(2, "right kidney", codes.SCT.Kidney)
    for item, side in ((first, codes.SCT.Left), (second, codes.SCT.Right)):
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept(side.value, side.scheme_designator, side.meaning)
        ]
    first.RecommendedDisplayCIELabValue = list(hd.color.CIELabColor.from_rgb(200, 30, 90).value)
    masks = np.stack([random_mask(scan), ~random_mask(scan)], -1).astype(np.uint8)
    left, right = read_labels(seg_file(scan, masks, "BINARY", [first, second], tmp_path / "x.dcm")).table.labels
    assert (left.modifier.meaning, right.modifier.meaning) == ("Left", "Right")
    np.testing.assert_allclose(left.color, (200, 30, 90), atol=1)
    assert right.color is None


def test_a_segment_without_frames_stays_in_the_table(scan, tmp_path):
    masks = np.stack([random_mask(scan), np.zeros_like(random_mask(scan))], -1).astype(np.uint8)
    path = seg_file(scan, masks, "BINARY", [described(1, "a"), described(2, "none")], tmp_path / "x.dcm")
    found = read_labels(path)
    assert found.table.names == ("a", "none")
    assert not found.mask("none").any()


def broken(path, change):
    data = dcmread(path)
    change(data)
    data.save_as(path)
    return path


def without_positions(data):
    for frame in data.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def without_orientation(data):
    del data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def off_the_stack(data):
    position = data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    position.ImagePositionPatient = [float(value) + 7 for value in position.ImagePositionPatient]


def unknown_segment(data):
    data.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def fewer_groups(data):
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[1:]


def twice_one_number(data):
    data.SegmentSequence.append(deepcopy(data.SegmentSequence[0]))
    data.SegmentSequence[1].SegmentLabel = "b"


def no_number(data):
    del data.SegmentSequence[0].SegmentNumber


def number_zero(data):
    data.SegmentSequence[0].SegmentNumber = 0


def two_and_no_name(data):
    twice_one_number(data)
    data.SegmentSequence[1].SegmentNumber = 2
    del data.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence


def mixed_spacings(data):
    measures = deepcopy(data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence)
    measures[0].PixelSpacing = [9, 9]
    data.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence = measures


def position_of_two(data):
    data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient = [1.0, 2.0]


def no_plane(data):
    data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def source_of_text(data):
    group = data.PerFrameFunctionalGroupsSequence[0]
    tag = group["DerivationImageSequence"].tag
    group[tag] = RawDataElement(tag, "LO", 4, b"text", 0, False, True)


def absurd_size(data):
    data.Rows = data.Columns = 65535


def tiled(data):
    data.TotalPixelMatrixRows = 10


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (without_positions, CorruptFileError, "none has a position"),
        (without_orientation, CorruptFileError, "without orientation"),
        (off_the_stack, SeriesError, "off a regular stack"),
        (unknown_segment, CorruptFileError, "frame 1 is of segment 9, which is not described"),
        (twice_one_number, CorruptFileError, "segments 'a' and 'b' are both number 1"),
        (no_number, CorruptFileError, "segment 'a' has no number"),
        (number_zero, CorruptFileError, "segment 'a' has the number 0"),
        (two_and_no_name, CorruptFileError, "frame 1 names no segment"),
        (mixed_spacings, SeriesError, "different pixel spacings"),
        (position_of_two, CorruptFileError, r"frame 2 has the position '1\.0.2\.0', not three numbers"),
        (no_plane, CorruptFileError, r"orientation \[1\.0, 0\.0, 0\.0, 1\.0, 0\.0, 0\.0\] is not that of a plane"),
        (fewer_groups, CorruptFileError, "are described"),
        (source_of_text, CorruptFileError, "cannot be read as a segmentation"),
        (absurd_size, CorruptFileError, "65535 x 65535"),
        (tiled, UnsupportedFormatError, "tiled"),
    ],
)
def test_functional_groups_that_cannot_be(scan, tmp_path, change, kind, message):
    path = seg_file(scan, random_mask(scan).astype(np.uint8), "BINARY", [described(1, "a")], tmp_path / "x.dcm")
    with pytest.raises(kind, match=rf"x\.dcm.*{message}"):
        read_labels(broken(path, change))


def test_a_frame_that_names_no_segment_is_of_the_only_one(scan, tmp_path):
    mask = random_mask(scan).astype(np.uint8)
    path = seg_file(scan, mask, "BINARY", [described(1, "a")], tmp_path / "x.dcm")

    def change(data):
        del data.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence

    found = read_labels(broken(path, change))
    np.testing.assert_array_equal(found.on_grid(scan.geometry).array, mask.T)
    assert found.source.remarks == (f"{len(mask) - 2} frames name no segment: they are of the only one",)


def test_frames_that_are_there_twice_are_told(scan, tmp_path):
    mask = np.zeros(scan.geometry.shape[::-1], np.uint8)
    mask[1, 2:4], mask[2, 3:5] = 1, 1
    path = seg_file(scan, mask, "BINARY", [described(1, "a")], tmp_path / "x.dcm")

    def change(data):
        first, second = (frame.PlanePositionSequence for frame in data.PerFrameFunctionalGroupsSequence)
        second[0].ImagePositionPatient = first[0].ImagePositionPatient

    found = read_labels(broken(path, change))
    assert found.source.remarks == ("1 frames are there twice, of one segment at one position: joined",)
    assert found.array.sum() == 3 * scan.geometry.shape[0]


@pytest.fixture(scope="module")
def oblique(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oblique")
    volume("oblique", folder)
    return read(folder / "source-oblique")


@pytest.mark.parametrize("places", [[1, 4, 7], [2, 3, 4], [5], [0, 2, 7], [0, 8]])
def test_frames_lie_where_they_say_whatever_the_distances_are(oblique, tmp_path, places):
    """On the series that they name, by `convert`, with any stored distances; the voxels are compared one by one."""
    mask = np.zeros(oblique.geometry.shape[::-1], np.uint8)
    mask[places, 1:4, 2:7] = 1
    path = seg_file(oblique, mask, "BINARY", [described(1, "a")], tmp_path / "x.dcm")
    series = Path(oblique.source.files[0]).parent
    for spacing, thickness in product([None, 0.5, 1.0, 3.0, 0.7], [None, 1.0, 3.0]):

        def change(data, stored=(("SpacingBetweenSlices", spacing), ("SliceThickness", thickness))):
            measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
            for keyword, share in stored:
                setattr(measures, keyword, None if share is None else share * oblique.spacing[2])

        converted = convert(broken(path, change), tmp_path / "x.nii.gz", reference=series)
        assert not converted.losses
        laid = read_labels(converted.path)
        np.testing.assert_array_equal(laid.on_grid(oblique.geometry).array, mask.T)
        try:
            found = read_labels(path).on_grid(oblique.geometry)
        except GridMismatchError:  # another distance, which the frames confirm: only their series knows better
            assert (places, spacing) == ([1, 4, 7], 3.0)
        else:
            np.testing.assert_array_equal(found.array, mask.T)


def without_series(data):
    del data.ReferencedSeriesSequence
    for frame in data.PerFrameFunctionalGroupsSequence:
        frame.pop("DerivationImageSequence", None)


def without_distances(data):
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SpacingBetweenSlices, measures.SliceThickness


def shuffled(data):
    order = np.random.default_rng(0).permutation(len(data.PerFrameFunctionalGroupsSequence))
    frames = data.pixel_array[order].astype(np.uint8)
    data.PerFrameFunctionalGroupsSequence = [data.PerFrameFunctionalGroupsSequence[k] for k in order]
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    data.PixelData = packed + bytes(len(packed) % 2)


def other_sources(data):
    groups = data.PerFrameFunctionalGroupsSequence
    sources = [group.DerivationImageSequence for group in groups]
    for group, source in zip(groups, sources[1:] + sources[:1], strict=True):
        group.DerivationImageSequence = source


def other_indices(data):
    for index, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].DimensionIndexValues = [1, 9 - index]


def negative_distance(data):
    data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = -2.5


def rounded(data):
    for frame in data.PerFrameFunctionalGroupsSequence:
        plane = frame.PlanePositionSequence[0]
        plane.ImagePositionPatient = [round(float(value), 3) for value in plane.ImagePositionPatient]


@pytest.mark.parametrize(
    "changes",
    [
        (without_series, without_distances),
        (without_distances,),
        (shuffled,),
        (shuffled, without_series, without_distances),
        (other_sources,),
        (other_indices,),
        (negative_distance,),
        (rounded, without_distances),
    ],
    ids=lambda changes: " ".join(change.__name__ for change in changes),
)
def test_nothing_but_positions_says_where_frames_lie(oblique, tmp_path, changes):
    mask = np.zeros(oblique.geometry.shape[::-1], np.uint8)
    mask[[1, 4, 7], 1:4, 2:7] = 1
    mask[4, 2, 3:9] = 1
    path = seg_file(oblique, mask, "BINARY", [described(1, "a")], tmp_path / "x.dcm")
    for change in changes:
        broken(path, change)
    converted = convert(path, tmp_path / "x.nii.gz", reference=Path(oblique.source.files[0]).parent)
    np.testing.assert_array_equal(read_labels(converted.path).on_grid(oblique.geometry).array, mask.T)
    assert any("is no distance" in remark for remark in converted.remarks) == (negative_distance in changes)
    told = "3 slices name another image of the scan than that at their position: positions count" in converted.remarks
    assert told == (other_sources in changes)


def test_a_projection_of_no_size(tmp_path):
    source = x_ray(tmp_path)
    labels = LabelMap.of(np.eye(*source.geometry.shape, dtype=np.uint8), source.geometry, LabelTable.numbered([1]))
    path = write_dicom_seg(labels, source, tmp_path / "x.dcm")

    def change(data):
        data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0, 0]

    found = read_labels(broken(path, change))
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.geometry.spacing is None
    assert found.source.remarks == (r"PixelSpacing '0.0\0.0' is no size: no physical size",)


@pytest.mark.parametrize("surplus", [0, 1, 2, 4096])
def test_surplus_bytes_of_pixels(scan, tmp_path, surplus):
    """Padding is none; another frame contradicts the header."""
    path = seg_file(scan, random_mask(scan).astype(np.uint8), "BINARY", [described(1, "a")], tmp_path / "x.dcm")

    def change(data):
        data.PixelData += bytes(surplus)

    if surplus == 4096:
        with pytest.raises(CorruptFileError, match=r"x\.dcm: \d+ bytes of pixels, the header promises"):
            read_labels(broken(path, change))
    else:
        assert read_labels(broken(path, change)).array.any()


def test_frames_that_are_compressed_after_all(scan, tmp_path):
    pixels = random_mask(scan).astype(np.uint8)
    path = seg_file(scan, pixels, "LABELMAP", [described(1, "a")], tmp_path / "x.dcm", transfer_syntax_uid=RLELossless)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0", 1))
    with pytest.raises(CorruptFileError, match=r"its frames are compressed, which its transfer syntax 'Explicit"):
        read_labels(path)


def test_a_sheared_stack_keeps_its_shear(scan, tmp_path):
    """Frames of a tilted gantry: each plane moved along its rows."""
    mask = random_mask(scan).astype(np.uint8)
    path = seg_file(scan, mask, "BINARY", [described(1, "a")], tmp_path / "x.dcm")
    straight = read_labels(path)

    def lean(data):
        for frame in data.PerFrameFunctionalGroupsSequence:
            x, y, z = (float(value) for value in frame.PlanePositionSequence[0].ImagePositionPatient)
            frame.PlanePositionSequence[0].ImagePositionPatient = [x, y + 0.25 * z, z]

    found = read_labels(broken(path, lean))
    np.testing.assert_array_equal(found.array, straight.array)
    assert not found.geometry.is_orthogonal
    there, before = (one.geometry.world(np.argwhere(straight.array)) for one in (found, straight))
    np.testing.assert_allclose(there, before - np.outer(before[:, 2], (0, 0.25, 0)), atol=1e-3)


@pytest.mark.realdata
def test_real_segmentations_equal_the_nrrd_files_beside_them(realdata):
    """dcmqi's own pairs of SEG and NRRD."""
    folder = realdata / "dicom" / "dev" / "dcmqi_seg" / "data" / "segmentations"
    for seg, nrrd in (
        ("liver.dcm", "liver_seg.nrrd"),
        ("24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd"),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd"),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd"),
    ):
        reference = read_labels(folder / nrrd)
        found = read_labels(folder / seg).on_grid(reference.geometry)
        np.testing.assert_array_equal(found.array > 0, reference.array > 0)
    parts = read_labels(folder / "partial_overlaps.dcm")
    assert len(parts.layers) == 3
    assert {label.name for label in parts.table.labels} == {"GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"}
