"""Random changes to training windows: what is drawn, what must be read for it, and how the CPU applies it.

A window's draw depends on its own seed alone, and is recorded apart from applying it (`voxelry.augmentation.draw`). Before it
is moved, more than a window is read: as far as the drawn move reaches. So nothing is lost at a window's edge; only what lies
beyond the case itself is filled with 0 and ignored by the loss, as where a window reaches beyond a case unmoved.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.augmentation import spatial_kernels as augment_kernels
from voxelry.augmentation.artefacts import control_points, splines, summed
from voxelry.augmentation.draw import Draw, Frame, draw
from voxelry.augmentation.intensity import change_channel, closed
from voxelry.augmentation.previous import disturbed
from voxelry.core.labels import IGNORE_INDEX, Label, LabelTable
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError
from voxelry.recipes.settings import AugmentSettings

_SIDES = {"left", "right", "l", "r", "lt", "rt"}


class Augmenter:
    """Draws and applies the changes of a recipe.

    Args:
        plan: windows, channels and axes.
        settings: probabilities and ranges; what they leave to the data is decided already (`AugmentSettings.chosen`).
        table: the labels.

    Raises:
        ConfigError: an axis to mirror that is not there.
    """

    def __init__(self, plan: Plan, settings: AugmentSettings, table: LabelTable) -> None:
        self.plan, self.settings, self.table = plan, settings, table
        self.frame = Frame.of(plan)
        self.flip_axes = mirrored_axes(plan, settings, table)
        self.cascade = plan.configuration == "3d_cascade"
        self.masked = tuple(number for number, one in enumerate(plan.normalisation) if one.scheme == "mask")
        self.same = np.arange(IGNORE_INDEX, len(table) + 1)
        self.twins = np.array([IGNORE_INDEX, *table.mirror_classes()])

    def draw(self, seed: int) -> Draw:
        """What happens to the window of a seed."""
        return draw(self.settings, self.frame, self.flip_axes, seed)

    def reach(self, drawn: Draw) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What must be read for a window: ``(first, size)`` of a box along each axis, from the window's first voxel."""
        patch = np.array(self.frame.patch)
        if not drawn.moves:
            return np.zeros(len(patch), dtype=np.int64), patch
        ends = np.stack([np.zeros(len(patch)), patch - 1.0], axis=1)
        if drawn.elastic is not None:
            ends[list(self.frame.plane)] += np.array([-1, 1]) * drawn.elastic[0]
        matrix = _matrix(drawn, len(patch))
        each = matrix[:, :-1, None] * ends[None]
        first = np.floor(each.min(axis=2).sum(axis=1) + matrix[:, -1] + 1e-9).astype(np.int64)
        last = np.ceil(each.max(axis=2).sum(axis=1) + matrix[:, -1] - 1e-9).astype(np.int64)
        return first, last - first + 1

    def disturbed(self, drawn: Draw, previous: NDArray[np.integer]) -> NDArray[np.int16]:
        """What the first stage of a cascade found, a little wrong, as it will be on cases that it was not trained on.

        Args:
            drawn: of the window.
            previous: ``(*box)`` class indices.
        """
        return disturbed(previous, len(self.table), drawn.previous, self.frame.plane)

    def apply(
        self, drawn: Draw, first: NDArray[np.int64], image_C: NDArray[np.floating], classes: NDArray[np.integer]
    ) -> tuple[Tensor, Tensor]:
        """A window with its changes, on the CPU.

        Args:
            drawn: what to do.
            first: of the box that was read, from the window's first voxel (`reach`).
            image_C: ``(C, *box)`` normalised; in a cascade one more channel, the class indices that the first stage found.
            classes: ``(*box)`` class indices.

        Returns:
            ``(C, *patch)`` float32, in a cascade with a channel for each label, 0 or 1, and ``(*patch)`` int64 class indices.
        """
        labels = len(self.table) if self.cascade else 0
        image = np.empty((self.frame.channels + labels, *self.frame.patch), dtype=np.float32)
        moved = np.empty(self.frame.patch, dtype=np.int64)
        self.apply_into(image, moved, drawn, first, image_C, classes)
        return torch.from_numpy(image), torch.from_numpy(moved)

    def apply_into(
        self,
        image: NDArray[np.float32],
        moved: NDArray[np.int64],
        drawn: Draw,
        first: NDArray[np.int64],
        image_C: NDArray[np.floating],
        classes: NDArray[np.integer],
    ) -> None:
        """`apply`, written to arrays that are there already, C-ordered."""
        channels, labels = self.frame.channels, len(self.table) if self.cascade else 0
        self._move(drawn, first, image_C[:channels], classes, image[:channels], moved)
        if self.cascade:
            found = np.empty(self.frame.patch, dtype=np.int64)
            self._move(drawn, first, image_C[:0], image_C[channels], image[:0], found)
            np.equal(found, np.arange(1, labels + 1).reshape(-1, *(1,) * found.ndim), out=image[channels:], casting="unsafe")
        content = {channel: image[channel] != 0 for channel in self.masked}
        for change in drawn.changes:
            change_channel(image[change.channel], change)
            if change.kind == "collimator":
                moved[closed(moved.shape, change.numbers)] = IGNORE_INDEX
        for channel, inside in content.items():  # which were 0 outside their content, and stay so
            image[channel] *= inside

    def _move(
        self,
        drawn: Draw,
        first: NDArray[np.int64],
        image_C: NDArray[np.floating],
        classes: NDArray[np.integer],
        out_C: NDArray[np.float32],
        moved: NDArray[np.int64],
    ) -> None:
        """Move, mirror and convert in one pass."""
        axes = len(self.frame.patch)
        in_plane = axes == 3 and len(self.frame.plane) == 2 and drawn.elastic is None
        still = tuple(axis for axis in range(axes) if axis not in self.frame.plane)
        order = (*still, *self.frame.plane) if in_plane else tuple(range(axes))
        image_C = np.ascontiguousarray(image_C, dtype=np.float32)
        out_steps, firsts = _steps(out_C.shape, order, drawn.flips)
        steps, _ = _steps(image_C.shape, order, ())
        shape = _padded(image_C.shape, order)
        ends = (out_C.reshape(-1), moved.reshape(-1), firsts, firsts, out_steps, _padded(out_C.shape, order)[1:])
        table = self.twins if self.plan.side_axis in drawn.flips else self.same
        given = (image_C.reshape(-1), np.ascontiguousarray(classes, dtype=np.int16).reshape(-1), table, steps, shape)
        if not drawn.moves:
            start = -_padded((0, *first.tolist()), order, 0)[1:]
            augment_kernels.copy_window(*given, start, *ends)
            return
        matrix = np.eye(3, 4)
        own = _matrix(drawn, axes)
        own[:, -1] -= first
        matrix[3 - axes :, 3 - axes :] = own[list(order)][:, [*order, axes]]
        if drawn.elastic is not None:
            field = np.zeros((3, *_padded(out_C.shape, order)[1:]), dtype=np.float32)
            points = control_points(drawn.elastic, self.frame.plane, axes)
            for axis in range(axes):
                field[3 - axes + axis] = summed(points[axis], [splines(edge) for edge in self.frame.patch])
            augment_kernels.warp_volume(*given, matrix, field, *ends)
        elif axes == 2 or in_plane:
            augment_kernels.move_planes(*given, matrix, *ends)
        else:
            augment_kernels.move_volume(*given, matrix, *ends)


def mirrored_axes(plan: Plan, settings: AugmentSettings, table: LabelTable) -> tuple[int, ...]:
    """The axes that windows are mirrored along.

    ``auto`` leaves out the axis across slices and, where labels have a side, every axis of volumes whose orientation is not
    known, and the axis from side to side where a label's twin is not known. ``sides`` leaves out all but that axis too.

    Args:
        plan: of the windows.
        settings: whose `flip_axes` say.
        table: the labels.

    Raises:
        ConfigError: an axis that is not there.
    """
    if isinstance(settings.flip_axes, tuple):
        bad = [axis for axis in settings.flip_axes if not 0 <= axis < plan.dimensions]
        if bad:
            raise ConfigError(f"augment.flip_axes names axis {bad[0]}; the data have axes 0..{plan.dimensions - 1}")
        return settings.flip_axes
    axes = [axis for axis in range(plan.dimensions) if axis != plan.slice_axis]
    sided = [label for label in table.labels if label.mirror or _is_sided(label)]
    if sided and plan.dimensions == 3 and plan.orientation is None:
        return ()
    if any(label.mirror is None for label in sided):
        axes = [axis for axis in axes if axis != plan.side_axis]
    return tuple(axis for axis in axes if settings.flip_axes == "auto" or axis == plan.side_axis)


def _is_sided(label: Label) -> bool:
    """Whether a label's name or code names a side."""
    words = re.split(r"[^a-z0-9]+", label.name.lower())
    return not _SIDES.isdisjoint(words) or (label.modifier is not None and label.modifier.meaning.lower() in _SIDES)


def _matrix(drawn: Draw, axes: int) -> NDArray[np.float64]:
    return np.eye(axes, axes + 1) if drawn.matrix is None else np.array(drawn.matrix)


def _padded(shape: Sequence[int], order: Sequence[int], missing: int = 1) -> NDArray[np.int64]:
    """Channels and three sizes of a shape ``(C, *axes)``, its axes in an order."""
    return np.array([shape[0], *(missing,) * (3 - len(order)), *(shape[1 + axis] for axis in order)], dtype=np.int64)


def _steps(shape: Sequence[int], order: Sequence[int], flips: Sequence[int]) -> tuple[NDArray[np.int64], int]:
    """Elements between neighbours along channels and three axes of a C-ordered array, and its first corner, as it is mirrored."""
    steps = [int(np.prod(shape[place + 1 :], dtype=np.int64)) for place in range(len(shape))]
    corner = sum((shape[1 + axis] - 1) * steps[1 + axis] for axis in flips)
    signed = [steps[0], *(-step if axis in flips else step for axis, step in enumerate(steps[1:]))]
    return _padded(signed, order, 0), corner
