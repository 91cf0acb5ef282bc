"""A real archive takes every kind of object by STOW-RS, gives it back label-identical, and resolves every reference."""

from dataclasses import dataclass, replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import Dataset, dcmread

import voxelry
from helpers.sources import TILTED, flat_labels, headers, labels, volume
from helpers.written import FORMATS
from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.formats.dicom.objects.seg_write import write_fractional_seg

pytestmark = pytest.mark.slow

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: an RTSTRUCT names its study as if it were an instance."""
UPRIGHT = ("axial", "oblique", "enhanced", "single")
"""Sources: to an archive geometry is nothing, kinds of objects and of references are."""
LABELMAPS = ({}, {"compression": "rle"}, {"compression": "deflate"})
STEP = 0.5 / 255 + 1e-6


@dataclass(frozen=True)
class Stored:
    """What was sent, and what the archive gave back.

    `sent` names the files of each kind, `back` the file of each SOPInstanceUID, `known` the instances of the study.
    """

    source: Volume
    series: Path
    sent: dict[str, list[Path]]
    back: dict[str, Path]
    known: set[str]

    def returned(self, kind: str) -> list[Path]:
        return [self.back[str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)] for file in self.sent[kind]]


@pytest.fixture(scope="module", params=[*UPRIGHT, TILTED])
def stored(request, archive, tmp_path_factory) -> Stored:
    folder = tmp_path_factory.mktemp(request.param)
    source = volume(request.param, folder)
    sent = {"source": [Path(file) for file in source.source.files]} | _objects(source, folder, tilted=request.param == TILTED)
    assert archive.send(*(file for files in sent.values() for file in files)) == []
    study = str(headers(source)[0].StudyInstanceUID)
    back = archive.fetch(study, folder / "back")
    series = folder / "series"
    series.mkdir()
    for file in sent["source"]:
        got = back[str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)]
        (series / got.name).write_bytes(got.read_bytes())
    return Stored(source, series, sent, back, archive.known(study))


def _objects(source: Volume, folder: Path, *, tilted: bool) -> dict[str, list[Path]]:
    """One object of each kind that the source allows."""
    made = {name: _files(labels(source.geometry), name, source, folder) for name in ("rtstruct", "secondary-capture")}
    made["encapsulated-stl"] = _files(labels(source.geometry), "encapsulated-stl", source, folder)
    if tilted:
        mask = voxelry.write(flat_labels(source.geometry), folder / "mask.nii.gz")
        done = voxelry.convert(mask, folder / "up.seg.dcm", reference=folder / f"source-{TILTED}", repair="tilt")
        return made | {"on the resampled series": [done.path], "resampled series": sorted(done.also[0].iterdir())}
    made["dicom-seg"] = _files(labels(source.geometry), "dicom-seg", source, folder)
    report = {"segmentation": made["dicom-seg"][0]}
    made["dicom-sr"] = _files(labels(source.geometry), "dicom-sr", source, folder, **report)
    for number, options in enumerate(LABELMAPS):
        file = folder / f"labelmap-{number}.seg.dcm"
        flat = flat_labels(source.geometry)
        made[f"labelmap {options}"] = [FORMATS["dicom-seg"].write(flat, file, source, {"kind": "labelmap", **options})]
    table = flat_labels(source.geometry).table
    fractional = write_fractional_seg(_probabilities(source), table, source, folder / "fractional.seg.dcm")
    return made | {"fractional": [fractional]}


def _files(of: LabelMap, name: str, source: Volume, folder: Path, **options) -> list[Path]:
    made = FORMATS[name].write(of, folder / f"made{FORMATS[name].ending}", source, options)
    return sorted(made.iterdir()) if made.is_dir() else [made]


def _probabilities(source: Volume) -> Volume:
    of = flat_labels(source.geometry)
    ramp = np.linspace(0.1, 1, source.geometry.shape[0], dtype=np.float32)[:, None, None]
    return replace(source, pixels=np.stack([of.mask(name) * ramp for name in of.table.names]), channels=len(of.table))


def test_every_object_comes_back_as_it_went(stored):
    for kind, files in stored.sent.items():
        for sent, got in zip(files, stored.returned(kind), strict=True):
            assert dcmread(got) == dcmread(sent), kind


def test_every_reference_resolves(stored):
    found = [item for file in stored.back.values() for item in _references(dcmread(file, stop_before_pixels=True))]
    assert len(found) > len(stored.source.source.files)
    studies = {str(header.StudyInstanceUID) for header in headers(stored.source)}
    for item in found:
        where = studies if item.ReferencedSOPClassUID == STUDY_CLASS else stored.known
        assert str(item.ReferencedSOPInstanceUID) in where
    kinds = {str(one.ReferencedSOPInstanceUID): str(one.ReferencedSOPClassUID) for one in found}
    for uid, kind in kinds.items():
        if kind != STUDY_CLASS:
            assert dcmread(stored.back[uid], stop_before_pixels=True).SOPClassUID == kind


def _references(data: Dataset) -> list[Dataset]:
    """Every item that names an instance, however deep."""
    found = [data] if "ReferencedSOPInstanceUID" in data else []
    for element in data:
        if element.VR == "SQ":
            found += [inner for item in element.value for inner in _references(item)]
    return found


@pytest.mark.parametrize("stored", UPRIGHT, indirect=True)
def test_segmentations_are_read_back_identical_by_us_and_by_highdicom(stored):
    scan = voxelry.read(stored.series)
    np.testing.assert_array_equal(scan.array, stored.source.array)
    for kind in ("dicom-seg", *(f"labelmap {options}" for options in LABELMAPS)):
        expected = labels(scan.geometry) if kind == "dicom-seg" else flat_labels(scan.geometry)
        (file,) = stored.returned(kind)
        ours = voxelry.read_labels(file).on_grid(scan.geometry)
        theirs = _by_highdicom(file, scan.geometry)
        for name in expected.table.names:
            np.testing.assert_array_equal(ours.mask(name), expected.mask(name), f"{kind} {name}")
            np.testing.assert_array_equal(theirs[name], expected.mask(name), f"{kind} {name}")


def _by_highdicom(file: Path, grid: Geometry) -> dict[str, np.ndarray]:
    """Each segment as highdicom reads it, on a grid."""
    seg = highdicom.seg.segread(file)
    found = seg.get_volume(combine_segments=False, rescale_fractional=False)
    of = LabelMap(
        np.moveaxis(found.array, -1, 0).astype(np.uint8),
        Geometry(found.spatial_shape, flip_lps_ras(found.affine)),
        voxelry.LabelTable.numbered([1]),
        Source("dicom-seg"),
    )
    names = [str(item.SegmentLabel) for item in seg.SegmentSequence if int(item.SegmentNumber)]
    return dict(zip(names, of.on_grid(grid).layers[-len(names) :] > 0, strict=True))


@pytest.mark.parametrize("stored", UPRIGHT, indirect=True)
def test_probabilities_are_read_back(stored):
    (file,) = stored.returned("fractional")
    got = voxelry.read(file)
    theirs = highdicom.seg.segread(file).get_volume(combine_segments=False)
    np.testing.assert_allclose(np.moveaxis(theirs.array, -1, 0).sum(), got.array.sum(), rtol=1e-5)
    expected = _probabilities(stored.source)
    part = got.geometry.reindexing_into(expected.geometry)
    start = expected.geometry.offset_of(got.geometry.reindexed(part))
    box = tuple(slice(first, first + size) for first, size in zip(start, got.geometry.reindexed(part).shape, strict=True))
    np.testing.assert_allclose(part.apply(got.array), expected.array[(slice(None), *box)], atol=STEP)


def test_contours_are_read_back_identical(stored):
    (file,) = stored.returned("rtstruct")
    found = voxelry.read_labels(file, reference=stored.series)
    grid = voxelry.read(stored.series).geometry
    for name in labels(grid).table.names:
        np.testing.assert_array_equal(found.on_grid(grid).mask(name), labels(grid).mask(name), name)
