"""A study as archives hold it: 24 slices in two encodings, and every kind of object made from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import RLELossless

import voxelry
from helpers.written import FORMATS
from voxelry.core.volume import LabelMap, Volume
from voxelry.formats.dicom.objects.seg_write import write_fractional_seg
from voxelry.phantom.acquisition import Acquisition
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.phantom import make_phantom

SLICES = 24
COMPRESSED = 8
"""Slices of the 24 that are compressed."""


def slices(folder: Path, seed: int = 0) -> list[Path]:
    """The files of a CT of 24 slices, some of them compressed by RLE."""
    phantom = make_phantom("torso-ct", seed, Acquisition((20, 20, 12), (320, 240, 288), "LPS"))
    [series] = write_dicom(phantom, folder)
    files = sorted(series.iterdir())
    assert len(files) == SLICES
    for file in files[:COMPRESSED]:
        data = dcmread(file)
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(file, enforce_file_format=True)
    return files


def objects(source: Volume, folder: Path) -> list[Path]:
    """One object of every kind of a scan whose brighter half is labelled."""
    inside = source.array[0] > np.median(source.array[0])
    labels = LabelMap(inside[None].astype(np.uint8), source.geometry, voxelry.LabelTable.numbered([1]), source.source)
    seg = _written(labels, "dicom-seg", source, folder)
    kinds = [*seg, *_written(labels, "dicom-sr", source, folder, segmentation=seg[0])]
    for name in ("rtstruct", "secondary-capture", "encapsulated-stl"):
        kinds += _written(labels, name, source, folder)
    for number, compression in enumerate(("rle", "deflate")):
        options = {"kind": "labelmap", "compression": compression}
        kinds.append(FORMATS["dicom-seg"].write(labels, folder / f"labelmap{number}.seg.dcm", source, options))
    likely = replace(source, pixels=inside[None].astype(np.float32) * 0.5, channels=1)
    return [*kinds, write_fractional_seg(likely, labels.table, source, folder / "fractional.seg.dcm")]


def _written(labels: LabelMap, name: str, source: Volume, folder: Path, **options) -> list[Path]:
    path = FORMATS[name].write(labels, folder / f"object{FORMATS[name].ending}", source, options)
    return sorted(path.iterdir()) if path.is_dir() else [path]
