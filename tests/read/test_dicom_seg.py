"""DICOM SEG as label maps; highdicom writes what is read here, and reads what is compared."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes

from voxelry.errors import CorruptFileError, GridMismatchError, LabelError, UnsupportedFormatError, VoxelryError
from voxelry.export.dicom_seg import write_dicom_seg
from voxelry.labels import Label, LabelTable
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.phantom import ACQUISITIONS, make
from voxelry.read.dicom_seg import is_dicom_seg, read_dicom_seg
from voxelry.read.reader import read, read_labels
from voxelry.volume import LabelMap

SHAPES = {"axial": {}, "coronal": {"axes": "RIA"}, "sagittal": {"axes": "AIR"}, "oblique": {"rotation": (10.0, 20.0, 5.0)}}


@pytest.fixture(params=list(SHAPES))
def case(request, tmp_path):
    """A torso series, its reference, and the SEG of the reference."""
    how = replace(ACQUISITIONS["torso-ct"], spacing=(16.0, 16.0, 20.0), **SHAPES[request.param])
    phantom = make("torso-ct", 3, how)
    scan = read(write_dicom(phantom, tmp_path / "series")[0])
    labels = phantom.labels.on_grid(scan.geometry)
    return scan, labels, write_dicom_seg(labels, scan, tmp_path / "mask.seg.dcm")


def test_a_mask_comes_back_on_its_scan(case):
    scan, labels, path = case
    found = read_labels(path, labels.table).on_grid(scan.geometry)
    np.testing.assert_array_equal(found.array, labels.array)


def test_names_and_codes_come_back(case):
    _, labels, path = case
    assert is_dicom_seg(path)
    found = read_labels(path).table
    assert found.names == labels.table.names
    assert [(one.category, one.type, one.modifier) for one in found.labels] == [
        (one.category, one.type, one.modifier) for one in labels.table.labels
    ]


@pytest.fixture
def scan(tmp_path):
    phantom = make("torso-ct", 1, replace(ACQUISITIONS["torso-ct"], spacing=(32.0, 32.0, 40.0)))
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
    with pytest.raises(UnsupportedFormatError, match="FRACTIONAL"):
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
        if not path.is_file() or path.suffix in (".nrrd", ".json") or not is_dicom_seg(path):
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
        volume = seg.get_volume(combine_segments=False, segment_numbers=list(seg.segment_numbers), allow_missing_positions=True)
        where = np.argwhere(volume.array[..., 0])
        lps = volume.affine[:3, :3] @ where.mean(0) + volume.affine[:3, 3]
        ours = found.geometry.world(np.argwhere(found.array)).mean(0)
        np.testing.assert_allclose(ours * (-1, -1, 1), lps, atol=1e-3)
