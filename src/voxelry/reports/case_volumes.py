"""Data of one case for the viewer of a report: image, prediction, reference and errors as NIfTI or PNG, in base64."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.objects import objects_of
from voxelry.core.panel import CT_WINDOW_HU, panels_of
from voxelry.core.volume import LabelMap, Volume
from voxelry.metrics.aligned_pair import is_numbered
from voxelry.metrics.segmentation_task import labels_of_task

MOST_VOXELS = 12_000_000
"""Of a scan in a report; of a larger one every second (third...) voxel is shown along its finest axes."""
LONGEST_SIDE = 1024
"""Pixels of a picture's longer side in a report."""
MISTAKES = (
    {"value": 1, "name": "missed", "rgb": (0, 114, 178)},
    {"value": 2, "name": "added", "rgb": (213, 94, 0)},
    {"value": 3, "name": "another label", "rgb": (240, 228, 66)},
)
"""Kinds of errors, in colours that colour-blind people can tell apart (Okabe and Ito 2008)."""
_CT_WINDOWS = {"soft tissue": CT_WINDOW_HU, "lung": (-1350.0, 150.0), "bone": (-450.0, 1050.0), "brain": (0.0, 80.0)}
_PERCENTILES = (0.5, 99.5)
_MOST_OBJECTS = 200
_NIFTI_LABELS = 1002
_FILL = 90


def case_data(id: str, volume: Volume, prediction: LabelMap | None, reference: LabelMap | None) -> dict[str, Any]:
    """What the viewer needs of a case, as plain values.

    Label values are renumbered from 1 in the order of the table, so that labels of several layers fit one volume; where labels
    overlap the later is on top.

    Args:
        id: the case.
        volume: the image; its first channel is shown, of a colour picture the mean.
        prediction: brought to the image's grid where only its axis order differs, or None.
        reference: likewise.

    Raises:
        GridMismatchError: the labels lie on another grid.
        ReadError: the image cannot be decoded.
    """
    maps = {"prediction": _named(prediction, reference), "reference": reference}
    own = {name: map.on_grid(volume.geometry) for name, map in maps.items() if map is not None}
    tables = [map.table for map in own.values()]
    names = dict.fromkeys(name for table in tables for name in table.names)
    numbers = {name: number for number, name in enumerate(names, start=1)}
    classes = {name: _classes(map, numbers) for name, map in own.items()}
    if len(classes) == 2:
        classes["errors"] = _errors(classes["prediction"], classes["reference"])
    rgb = {label.name: label.rgb for table in reversed(tables) for label in table.labels}
    common: dict[str, Any] = {
        "id": id,
        "labels": [{"value": number, "name": name, "rgb": rgb[name]} for name, number in numbers.items()],
        "mistakes": MISTAKES,
    }
    if volume.geometry.affine is None:
        return {**common, "picture": True, **_pictures(volume, classes, common["labels"])}
    return {**common, **_volumes(volume, classes), "objects": _objects(own)}


def _named(prediction: LabelMap | None, reference: LabelMap | None) -> LabelMap | None:
    """The prediction with the reference's names, where its file holds none and its values are the reference's."""
    if prediction is None or reference is None or not is_numbered(prediction.table):
        return prediction
    known = {label.value for label in reference.table.labels}
    is_same = {label.value for label in prediction.table.labels} <= known and reference.table.layers == 1
    return replace(prediction, table=reference.table) if is_same else prediction


def _classes(labels: LabelMap, numbers: dict[str, int]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """``(*spatial)``: the number of each voxel's label, 0 for none."""
    classes = np.zeros(labels.geometry.shape, np.uint8 if len(numbers) < 256 else np.uint16)
    for label in labels.table.labels:
        classes[labels.layers[label.layer] == label.value] = numbers[label.name]
    return classes


def _errors(prediction: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.uint8]:
    """1 where a label was missed, 2 where one was added, 3 where it is another than the reference's."""
    errors = np.zeros(prediction.shape, np.uint8)
    errors[(prediction == 0) & (reference > 0)] = 1
    errors[(prediction > 0) & (reference == 0)] = 2
    errors[(prediction > 0) & (reference > 0) & (prediction != reference)] = 3
    return errors


def _volumes(volume: Volume, classes: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Image and labels as NIfTI, thinned alike, and the windows of the image."""
    steps = _steps(volume.geometry)
    take = tuple(slice(None, None, step) for step in steps)
    grey = volume.array[0][take]
    note = "" if max(steps) == 1 else "Shown at a lower resolution: every " + " x ".join(map(str, steps)) + " voxels one."
    affine = volume.geometry.affine @ np.diag([*steps, 1]) if volume.geometry.affine is not None else np.eye(4)
    return {
        "scan": _nifti(grey, affine, 0),
        **{name: _nifti(values[take], affine, _NIFTI_LABELS) for name, values in classes.items()},
        "windows": _windows(volume, grey),
        "note": note,
    }


def _steps(geometry: Geometry) -> list[int]:
    """Every how many voxels one is kept along each axis."""
    steps, spacing = [1, 1, 1], geometry.spacing or (1.0, 1.0, 1.0)
    shape = np.array(geometry.shape)
    while np.prod(-(-shape // np.array(steps))) > MOST_VOXELS:
        steps[int(np.argmin(np.array(spacing) * steps))] += 1
    return steps


def _nifti(values: NDArray[Any], affine: NDArray[np.float64], intent: int) -> str:
    """A gzipped NIfTI-1 file in base64; numbers with fractions are rounded to one of 65,536 steps of their range."""
    image = nib.Nifti1Image(np.asarray(values), affine)
    if values.dtype.kind == "f":
        image.set_data_dtype(np.int16)
    image.header.set_intent(intent) if intent else None
    image.header.set_xyzt_units("mm")
    return base64.b64encode(igzip.compress(image.to_bytes(), 2)).decode()


def _windows(volume: Volume, grey: NDArray[Any]) -> list[dict[str, Any]]:
    """Ranges of grey values to display: those of the modality, those of the file, and the range of the image."""
    windows = dict(_CT_WINDOWS) if volume.modality == "CT" else {}
    windows |= {
        each.name or f"{each.center:g} / {each.width:g}": (each.center - each.width / 2, each.center + each.width / 2)
        for each in volume.windows
    }
    low, high = (float(value) for value in np.percentile(grey, _PERCENTILES))
    everything = {"most values": (low, high if high > low else low + 1)}
    chosen = windows | everything if volume.modality == "CT" else everything | windows
    return [{"name": name, "low": low, "high": high} for name, (low, high) in chosen.items()]


def _objects(maps: dict[str, LabelMap]) -> list[dict[str, Any]]:
    """Places to jump to: every label, or each object of things, of the prediction and the reference; the largest first."""
    places = []
    for name, map in maps.items():
        labels = labels_of_task(map, "panoptic")[0]
        for item in objects_of(labels, labels.source.name):
            if item.voxels and item.centre is not None:
                number = f" {item.instance}" if item.instance else ""
                size = "" if map.geometry.voxel_volume is None else f", {item.voxels * map.geometry.voxel_volume / 1000:.3g} ml"
                text = f"{name}: {item.label.name}{number}{size}"
                places.append((item.voxels, {"name": text, "mm": [float(x) for x in map.geometry.world(_inside(item, labels))]}))
    return [place for _, place in sorted(places, key=lambda pair: -pair[0])[:_MOST_OBJECTS]]


def _inside(item: Any, labels: LabelMap) -> NDArray[np.float64]:
    """The voxel of an object that is next to its centre, which may lie outside of it."""
    voxels = np.argwhere(item.mask(labels)) + [side.start for side in item.box]
    nearest: NDArray[np.float64] = voxels[np.argmin(((voxels - np.array(item.centre)) ** 2).sum(axis=1))].astype(np.float64)
    return nearest


def _pictures(volume: Volume, classes: dict[str, NDArray[Any]], labels: list[dict[str, Any]]) -> dict[str, str]:
    """The picture as PNG, and each kind of labels as a transparent PNG of outlines and faint fills."""
    panel = panels_of(volume, None, None)[0]
    drawn = panel.draw(LabelTable(labels=()), (LONGEST_SIDE, LONGEST_SIDE))
    pictures = {"scan": _png(drawn)}
    for name, values in classes.items():
        colours = {row["value"]: row["rgb"] for row in (MISTAKES if name == "errors" else labels)}
        pictures[name] = _png(_painted(values, colours, drawn.size))
    return pictures


def _painted(values: NDArray[Any], colours: dict[Any, Any], size: tuple[int, int]) -> Image.Image:
    """``(rows, cols)`` classes in their colours at another size: opaque outlines, faint inside."""
    enlarged = np.asarray(Image.fromarray(values.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    picture = np.zeros((*enlarged.shape, 4), np.uint8)
    for value, rgb in colours.items():
        mask = enlarged == value
        picture[mask] = (*rgb, _FILL)
        picture[mask & ~binary_erosion(mask, iterations=2)] = (*rgb, 255)
    return Image.fromarray(picture)


def _png(image: Image.Image) -> str:
    with io.BytesIO() as file:
        image.save(file, format="PNG", optimize=True)
        return base64.b64encode(file.getvalue()).decode()
