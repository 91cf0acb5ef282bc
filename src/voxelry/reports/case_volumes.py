"""Data of one case for the viewer of a report: image, prediction, reference and errors as NIfTI or PNG, in base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.segmentation import find_boundaries

from voxelry.core.labels import LabelTable
from voxelry.core.objects import objects_of
from voxelry.core.panel import CT_WINDOW_HU, panels_of
from voxelry.core.viewer_layers import label_classes, label_numbers, thinning, viewer_nifti
from voxelry.core.volume import LabelMap, Volume
from voxelry.metrics.aligned_pair import is_numbered
from voxelry.metrics.segmentation_task import labels_of_task
from voxelry.reports.run_cases import CaseImages

MOST_VOXELS = 12_000_000
"""Of a scan in a report; of a larger one every second (third...) voxel is shown along its finest axes."""
PICTURE_SIDES = (512, 1024)
"""Least and most pixels of a picture's longer side in a report; in between it keeps its own."""
MISTAKES = (
    {"value": 1, "name": "missed", "rgb": (0, 114, 178)},
    {"value": 2, "name": "added", "rgb": (213, 94, 0)},
    {"value": 3, "name": "another label", "rgb": (240, 228, 66)},
)
"""Kinds of errors, in colours that colour-blind people can tell apart (Okabe and Ito 2008)."""
_CT_WINDOWS = {"soft tissue": CT_WINDOW_HU, "lung": (-1350.0, 150.0), "bone": (-450.0, 1050.0), "brain": (0.0, 80.0)}
_PERCENTILES = (0.5, 99.5)
_MOST_OBJECTS = 200
_MOST_WEIGHED = 1 << 23
"""Voxels of an object that are looked at to find the one next to its centre."""
_FILL = 90
_COMPRESSION = 4
"""Of PNG: the best takes ten times as long for a few per cent."""


LAYERS = {"prediction": "prediction", "reference": "reference", "errors": "errors"}
"""What lies on the scan in the viewer -> its name."""
TWO_MODELS = {
    "prediction": "A", "other": "B", "reference": "reference", "errors": "errors of A", "other_errors": "errors of B",
}  # fmt: skip
"""The same where two models are compared."""


def case_data(id: str, images: CaseImages) -> dict[str, Any]:
    """What the viewer needs of a case, as plain values.

    Label values are renumbered from 1 in the order of the table, so that labels of several layers fit one volume; where labels
    overlap the later is on top.

    Args:
        id: the case.
        images: of the image the first channel is shown, of a colour picture the mean; labels are brought to its grid where only
            their axis order differs.

    Raises:
        GridMismatchError: the labels lie on another grid.
        ReadError: the image cannot be decoded.
    """
    volume, reference = images.volume, images.reference
    maps = {"prediction": _named(images.prediction, reference), "other": _named(images.other, reference), "reference": reference}
    own = {name: map.on_grid(volume.geometry) for name, map in maps.items() if map is not None}
    tables = [map.table for map in own.values()]
    numbers, is_picture = label_numbers(tables), volume.geometry.affine is None
    steps = (1,) * volume.geometry.ndim if is_picture else thinning(volume.geometry, MOST_VOXELS)
    take = tuple(slice(None, None, step) for step in steps)
    classes: dict[str, NDArray[Any]] = {name: label_classes(map, numbers, take) for name, map in own.items()}
    for name, errors in (("prediction", "errors"), ("other", "other_errors")):
        if name in classes and "reference" in classes:
            classes[errors] = _errors(classes[name], classes["reference"])
    rgb = {label.name: label.rgb for table in reversed(tables) for label in table.labels}
    common: dict[str, Any] = {
        "id": id,
        "labels": [{"value": number, "name": name, "rgb": rgb[name]} for name, number in numbers.items()],
        "mistakes": MISTAKES,
        "note": images.note,
    }
    if is_picture:
        objects = {name: map.instances.max(axis=0) for name, map in own.items() if map.instances is not None}
        return {**common, "picture": True, **_pictures(volume, classes, objects, common["labels"])}
    called = LAYERS if images.other is None else TWO_MODELS
    coarse = "" if max(steps) == 1 else "Shown at a lower resolution: every " + " x ".join(map(str, steps)) + " voxels one."
    common["note"] = " ".join(filter(None, (images.note, coarse)))
    return {**common, **_volumes(volume, classes, steps), "objects": _objects({called[name]: map for name, map in own.items()})}


def _named(prediction: LabelMap | None, reference: LabelMap | None) -> LabelMap | None:
    """The prediction with the reference's names, where its file holds none and its values are the reference's."""
    if prediction is None or reference is None or not is_numbered(prediction.table):
        return prediction
    known = {label.value for label in reference.table.labels}
    is_same = {label.value for label in prediction.table.labels} <= known and reference.table.layers == 1
    return replace(prediction, table=reference.table) if is_same else prediction


def _errors(prediction: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.uint8]:
    """1 where a label was missed, 2 where one was added, 3 where it is another than the reference's."""
    errors = np.zeros(prediction.shape, np.uint8)
    errors[(prediction == 0) & (reference > 0)] = 1
    errors[(prediction > 0) & (reference == 0)] = 2
    errors[(prediction > 0) & (reference > 0) & (prediction != reference)] = 3
    return errors


def _volumes(volume: Volume, classes: dict[str, NDArray[Any]], steps: Sequence[int]) -> dict[str, Any]:
    """Image and labels as NIfTI in base64, and the windows of the image; the labels are thinned already."""
    grey = volume.array[0][tuple(slice(None, None, step) for step in steps)]

    def nifti(values: NDArray[Any], *, is_labels: bool) -> str:
        return base64.b64encode(viewer_nifti(values, volume.geometry, steps, is_labels=is_labels)).decode()

    return {
        "scan": nifti(grey, is_labels=False),
        **{name: nifti(values, is_labels=True) for name, values in classes.items()},
        "windows": _windows(volume, grey),
    }


def _windows(volume: Volume, grey: NDArray[Any]) -> list[dict[str, Any]]:
    """Ranges of grey values to display: those of the modality, those of the file, and the range of the image.

    What a file calls its own is free text, which may say who the patient is: they are called by centre and width.
    """
    windows = dict(_CT_WINDOWS) if volume.modality == "CT" else {}
    windows |= {
        f"{each.center:g} / {each.width:g}": (each.center - each.width / 2, each.center + each.width / 2)
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
    mask = item.mask(labels)
    step = max(1, round((mask.size / _MOST_WEIGHED) ** (1 / mask.ndim)))
    if not mask[(slice(None, None, step),) * mask.ndim].any():
        step = 1
    mask = mask[(slice(None, None, step),) * mask.ndim]  # of a large object every second (third...) voxel is looked at
    distance = np.zeros(mask.shape, np.float32)
    for axis, (side, centre) in enumerate(zip(item.box, item.centre, strict=True)):
        along = (np.arange(mask.shape[axis], dtype=np.float32) * step + np.float32(side.start - centre)) ** 2
        distance += along.reshape([-1 if other == axis else 1 for other in range(mask.ndim)])
    distance[~mask] = np.inf
    nearest = np.unravel_index(int(distance.argmin()), mask.shape)
    return np.array([place * step + side.start for place, side in zip(nearest, item.box, strict=True)], np.float64)


def _pictures(
    volume: Volume, classes: dict[str, NDArray[Any]], objects: dict[str, NDArray[Any]], labels: list[dict[str, Any]]
) -> dict[str, str]:
    """The picture as PNG, and each kind of labels as a transparent PNG of outlines and faint fills."""
    panel = panels_of(volume, None, None)[0]
    side = int(np.clip(max(panel.grey.shape), *PICTURE_SIDES))
    drawn = panel.draw(LabelTable(labels=()), (side, side))
    pictures = {"scan": png_base64(drawn.convert("L"))}
    for name, values in classes.items():
        colours = {row["value"]: row["rgb"] for row in (MISTAKES if name.endswith("errors") else labels)}
        pictures[name] = png_base64(_painted(values, objects.get(name), colours, drawn.size))
    return pictures


def _painted(values: NDArray[Any], ids: NDArray[Any] | None, colours: dict[Any, Any], size: tuple[int, int]) -> Image.Image:
    """``(rows, cols)`` classes in their colours at another size: opaque outlines of labels and objects, faint inside."""
    enlarged = _enlarged(values, size)
    edges = find_boundaries(enlarged, mode="inner")
    if ids is not None:
        edges |= find_boundaries(_enlarged(ids, size), mode="inner")
    edges = binary_dilation(edges)
    picture = np.zeros((*enlarged.shape, 4), np.uint8)
    for value, rgb in colours.items():
        mask = enlarged == value
        picture[mask] = (*rgb, _FILL)
        picture[mask & edges] = (*rgb, 255)
    return Image.fromarray(picture)


def _enlarged(values: NDArray[Any], size: tuple[int, int]) -> NDArray[np.int32]:
    return np.asarray(Image.fromarray(values.astype(np.int32)).resize(size, Image.Resampling.NEAREST))


def png_base64(image: Image.Image) -> str:
    """A picture of a page as PNG in base64."""
    with io.BytesIO() as file:
        image.save(file, format="PNG", compress_level=_COMPRESSION)
        return base64.b64encode(file.getvalue()).decode()
