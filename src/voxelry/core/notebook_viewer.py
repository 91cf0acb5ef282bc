"""A scan or label map in a notebook as a viewer (NiiVue), where the package ipyniivue is installed (extra `notebook`)."""

from __future__ import annotations

import importlib
import sys
from collections import deque
from typing import Any

import numpy as np

from voxelry.base.extras import is_installed
from voxelry.core.labels import LabelTable
from voxelry.core.object_palette import Labelled
from voxelry.core.panel import Pictured, grey_window
from voxelry.core.viewer_layers import label_classes, label_numbers, thinning, viewer_nifti
from voxelry.errors import VoxelryError

MOST_VOXELS = 4_000_000
"""Of a volume in a notebook, which is sent to the browser; of a larger one every second (third...) voxel is shown."""
MOST_VIEWERS = 12
"""That are open at a time, the oldest closed first: each holds its volumes in memory, and browsers draw no more than 16."""

_OPACITY = 0.5
_OPTIONS = {
    "height": 420, "is_radiological_convention": True, "sagittal_nose_left": True, "show_all_orientation_markers": True,
    "is_nearest_interpolation": True, "multiplanar_pad_pixels": 4,
}  # fmt: skip
_open: deque[Any] = deque()


def viewer_bundle(volume: Pictured | None, labels: Labelled | None) -> dict[str, Any]:
    """What a notebook draws the viewer by, as `_repr_mimebundle_` returns it.

    Args:
        volume: the image, of which the first channel is shown; None shows the labels on black.
        labels: on the image's grid, or None.

    Returns:
        MIME type -> data. Empty, so that the picture of `_repr_html_` is shown alone: outside a notebook, without ipyniivue,
        and for a picture or an image that cannot be decoded.
    """
    shown = volume or labels
    assert shown is not None
    if shown.geometry.affine is None or not _is_notebook() or not is_installed("ipyniivue"):
        return {}
    try:
        layers = _layers(volume, labels)
    except VoxelryError:  # which the picture's place says
        return {}
    viewer = importlib.import_module("ipyniivue").NiiVue(**_OPTIONS)
    viewer.load_volumes([layer for layer, _ in layers])
    for drawn, (_, colours) in zip(viewer.volumes, layers, strict=True):
        if colours:
            drawn.set_colormap_label(colours)
    while len(_open) >= MOST_VIEWERS:
        _open.popleft().close()
    _open.append(viewer)
    bundle = viewer._repr_mimebundle_()
    data: dict[str, Any] = bundle[0] if isinstance(bundle, tuple) else bundle
    return data


def _is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _layers(volume: Pictured | None, labels: Labelled | None) -> list[tuple[dict[str, Any], dict[str, list[Any]]]]:
    """Each volume of the viewer with its colours, which are none for the image."""
    shown = volume or labels
    assert shown is not None
    grid = shown.geometry
    steps = thinning(grid, MOST_VOXELS)
    take = tuple(slice(None, None, step) for step in steps)
    if volume is not None:
        low, high = grey_window(volume)
        grey = volume.array[0][take]
    else:
        low, high = 0.0, 1.0
        grey = np.zeros([-(-size // step) for size, step in zip(grid.shape, steps, strict=True)], np.uint8)
    image = {"colormap": "gray", "cal_min": low, "cal_max": high if high > low else low + 1}
    scan = {"data": viewer_nifti(grey, grid, steps, is_labels=False), "name": "scan.nii.gz", **image}
    layers: list[tuple[dict[str, Any], dict[str, list[Any]]]] = [({**scan, "colorbar_visible": False}, {})]
    if labels is not None:
        classes = label_classes(labels, label_numbers([labels.table]), take)
        overlay = {"data": viewer_nifti(classes, grid, steps, is_labels=True), "name": "labels.nii.gz", "opacity": _OPACITY}
        layers.append(({**overlay, "colorbar_visible": False}, _colours(labels.table)))
    return layers


def _colours(table: LabelTable) -> dict[str, list[Any]]:
    """The table's colours by the numbers of `label_numbers`, 0 transparent."""
    rows = [("", (0, 0, 0), 0), *((label.name, label.rgb, 255) for label in table.labels)]
    channels = {letter: [rgb[place] for _, rgb, _ in rows] for place, letter in enumerate("RGB")}
    return {**channels, "A": [alpha for *_, alpha in rows], "I": [*range(len(rows))], "labels": [name for name, *_ in rows]}
