"""The changes of `voxelry.augmentation.intensity` for a whole batch on the device that trains, in torch, by the same record.

Nothing is read back from the device. Rows are channels of windows ``(R, *patch)``; all that a kind changes are changed at once.
Operators along an axis are small matrices, so blur, coarse grids and k-space lines are matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.augmentation.artefacts import bias_factors, control_points, spike_factors, splines, summed
from voxelry.augmentation.augment import Augmenter
from voxelry.augmentation.axis_operators import as_matrix, blur_taps, coarse_taps, ghosting, late_lines
from voxelry.augmentation.draw import ORDER, Draw
from voxelry.augmentation.intensity import closed
from voxelry.core.labels import IGNORE_INDEX

Rows = Sequence[tuple[float, ...]]
"""The recorded numbers of each row."""

_FLAT = 1e-7
_MASK = 0xFFFFFFFF


def augment_batch(image_BC: Tensor, classes_B: Tensor, draws: Sequence[Draw], augment: Augmenter) -> tuple[Tensor, Tensor]:
    """Windows with their changes.

    Args:
        image_BC: ``(B, C, *box)`` on the device, any float type: each window's box (`Augmenter.reach`), all of one size; in a
            cascade one more channel, the class indices that the first stage found.
        classes_B: ``(B, *box)`` integer class indices.
        draws: of each window.
        augment: whose draws they are.

    Returns:
        ``(B, C, *patch)`` float32, in a cascade with a channel for each label, 0 or 1, and ``(B, *patch)`` int64 class indices.
    """
    pairs = [_moved(image_C, classes, drawn, augment) for image_C, classes, drawn in zip(image_BC, classes_B, draws, strict=True)]
    image = torch.stack([one for one, _ in pairs])
    classes = torch.stack([one for _, one in pairs])
    content = {channel: image[:, channel] != 0 for channel in augment.masked}
    rows = image.flatten(0, 1)
    stride = image.shape[1]
    for kind in ORDER:
        found = [
            (window * stride + change.channel, change.numbers)
            for window, drawn in enumerate(draws)
            for change in drawn.changes
            if change.kind == kind
        ]
        if found:
            place = _put([row for row, _ in found], torch.int64, image.device)
            rows.index_copy_(0, place, _KINDS[kind](rows.index_select(0, place), [numbers for _, numbers in found]))
    for window, drawn in enumerate(draws):
        for change in drawn.changes:
            if change.kind == "collimator":
                classes[window].masked_fill_(_closed(classes[window], change.numbers), IGNORE_INDEX)
    for channel, inside in content.items():  # which were 0 outside their content, and stay so
        image[:, channel] *= inside
    return image, classes


def _put(values: Sequence[float] | NDArray[np.generic], kind: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers on the device, without waiting for it."""
    made = torch.as_tensor(np.asarray(values), dtype=kind)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


def _numbers(rows: Rows, which: int, like: Tensor) -> Tensor:
    """One recorded number of each row, to be broadcast."""
    return _put([numbers[which] for numbers in rows], torch.float32, like.device).view(-1, *(1,) * (like.ndim - 1))


def _moved(image_C: Tensor, classes: Tensor, drawn: Draw, augment: Augmenter) -> tuple[Tensor, Tensor]:
    """One window, moved, mirrored, its twins swapped and its first labels one-hot."""
    frame, channels = augment.frame, augment.frame.channels
    image_C = image_C.float()
    labels = [classes, image_C[channels]] if augment.cascade else [classes]
    sheet = torch.stack([one.float() - IGNORE_INDEX for one in labels])
    if drawn.moves:
        place = _places(drawn, augment, image_C.device)
        image_C = _sampled(image_C[:channels], place)
        whole = (place + 0.5).floor()
        sheet = _sampled(sheet, whole)
    else:
        window = (slice(None), *(slice(0, edge) for edge in frame.patch))
        image_C, sheet = image_C[:channels][window], sheet[window]
    if drawn.flips:
        axes = [axis + 1 for axis in drawn.flips]
        image_C, sheet = image_C.flip(axes), sheet.flip(axes)
    table = _put(augment.twins if augment.plan.side_axis in drawn.flips else augment.same, torch.int64, image_C.device)
    indices = table[sheet.round().long()]
    if augment.cascade:
        each = torch.arange(1, len(augment.table) + 1, device=image_C.device).view(-1, *(1,) * len(frame.patch))
        image_C = torch.cat([image_C, (indices[1] == each).float()])
    return image_C, indices[0]


def _places(drawn: Draw, augment: Augmenter, device: torch.device) -> Tensor:
    """Where in the box each voxel of the window comes from, ``(axes, *patch)``."""
    patch, axes = augment.frame.patch, len(augment.frame.patch)
    first, _ = augment.reach(drawn)
    matrix = np.eye(axes, axes + 1) if drawn.matrix is None else np.array(drawn.matrix)
    offset = matrix[:, -1] - first
    lines = [
        torch.arange(edge, device=device, dtype=torch.float32).view(*(-1 if other == axis else 1 for other in range(axes)))
        for axis, edge in enumerate(patch)
    ]
    voxels = [line.expand(patch) for line in lines]
    if drawn.elastic is not None:
        points = control_points(drawn.elastic, augment.frame.plane, axes)
        field = [_put(summed(one, [splines(edge) for edge in patch]), torch.float32, device) for one in points]
        voxels = [voxel + shift for voxel, shift in zip(voxels, field, strict=True)]
    rows = []
    for axis in range(axes):
        row = voxels[0] * float(matrix[axis, 0])
        for other in range(1, axes):
            row = row + voxels[other] * float(matrix[axis, other])
        rows.append(row + float(offset[axis]))
    return torch.stack(rows)


def _sampled(image_C: Tensor, place: Tensor) -> Tensor:
    """Linear interpolation, 0 beyond the box; exact at whole places."""
    sizes = image_C.shape[1:]
    grid = torch.stack([(2 * place[axis] + 1) / sizes[axis] - 1 for axis in reversed(range(len(sizes)))], dim=-1)
    made: Tensor = torch.nn.functional.grid_sample(image_C[None], grid[None], align_corners=False)[0]
    return made


def _along(rows_R: Tensor, matrices: Sequence[NDArray[np.float32]], axis: int) -> Tensor:
    """Each row's matrix times its lines along an axis."""
    operator = _put(np.stack(matrices), torch.float32, rows_R.device)
    lines = rows_R.movedim(axis + 1, 1)
    made = torch.bmm(operator, lines.reshape(len(rows_R), lines.shape[1], -1))
    return made.view(lines.shape).movedim(1, axis + 1)


def _axes(rows_R: Tensor) -> tuple[int, ...]:
    return tuple(range(1, rows_R.ndim))


def _noise(rows_R: Tensor, rows: Rows) -> Tensor:
    """The same numbers as `intensity_kernels.add_noise`: 32-bit arithmetic within 64 bits, whose overflow is cut off."""
    count = rows_R[0].numel()
    keys = _put([int(numbers[1]) for numbers in rows], torch.int64, rows_R.device)[:, None]
    state = _mixed(torch.arange((count + 1) // 2, device=rows_R.device)) ^ keys
    a = (_mixed(state) >> 8).float() + 0.5
    b = (_mixed((state + 0x9E3779B9) & _MASK) >> 8).float()
    radius = (-2 * (a * 2.0**-24).log()).sqrt()
    angle = b * (2 * math.pi * 2.0**-24)
    drawn = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(1)[:, :count]
    return rows_R + drawn.view(rows_R.shape) * _numbers(rows, 0, rows_R)


def _mixed(x: Tensor) -> Tensor:
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def _brightness(rows_R: Tensor, rows: Rows) -> Tensor:
    return rows_R * _numbers(rows, 0, rows_R)


def _contrast(rows_R: Tensor, rows: Rows) -> Tensor:
    axes = _axes(rows_R)
    mean = rows_R.mean(axes, keepdim=True)
    changed = (rows_R - mean) * _numbers(rows, 0, rows_R) + mean
    return changed.clamp(rows_R.amin(axes, keepdim=True), rows_R.amax(axes, keepdim=True))


def _gamma(rows_R: Tensor, rows: Rows, sign: int = 1) -> Tensor:
    axes, source = _axes(rows_R), rows_R * sign
    least, most = source.amin(axes, keepdim=True), source.amax(axes, keepdim=True)
    width = most - least
    raised = ((source - least) / width.clamp_min(_FLAT)).clamp(0, 1) ** _numbers(rows, 0, rows_R)
    mean, deviation = source.mean(axes, keepdim=True), source.std(axes, correction=0, keepdim=True)
    now, spread = raised.mean(axes, keepdim=True), raised.std(axes, correction=0, keepdim=True)
    changed = (raised - now) * (deviation / spread.clamp_min(_FLAT)) + mean
    return torch.where(width < _FLAT, source, changed) * sign


def _inverted_gamma(rows_R: Tensor, rows: Rows) -> Tensor:
    return _gamma(rows_R, rows, -1)


def _histogram(rows_R: Tensor, rows: Rows) -> Tensor:
    axes = _axes(rows_R)
    knots = _put(np.array(rows), torch.float32, rows_R.device)
    steps = knots.shape[1] - 1
    least = rows_R.amin(axes, keepdim=True)
    width = rows_R.amax(axes, keepdim=True) - least
    place = ((rows_R - least) / width.clamp_min(_FLAT) * steps).clamp(0, steps)
    first = place.floor().clamp_max(steps - 1)
    low = knots.gather(1, first.long().flatten(1)).view(rows_R.shape)
    high = knots.gather(1, first.long().flatten(1) + 1).view(rows_R.shape)
    return torch.where(width < _FLAT, rows_R, least + (low + (place - first) * (high - low)) * width)


def _invert(rows_R: Tensor, _: Rows) -> Tensor:
    axes = _axes(rows_R)
    return rows_R.amin(axes, keepdim=True) + rows_R.amax(axes, keepdim=True) - rows_R


def _blur(rows_R: Tensor, rows: Rows) -> Tensor:
    for axis, size in enumerate(rows_R.shape[1:]):
        if any(numbers[axis] for numbers in rows):
            rows_R = _along(rows_R, [as_matrix(blur_taps(size, numbers[axis]), size) for numbers in rows], axis)
    return rows_R


def _low_resolution(rows_R: Tensor, rows: Rows) -> Tensor:
    for axis, size in enumerate(rows_R.shape[1:]):
        if any(numbers[axis] != size for numbers in rows):
            rows_R = _along(rows_R, [as_matrix(coarse_taps(size, int(numbers[axis])), size) for numbers in rows], axis)
    return rows_R


def _collimator(rows_R: Tensor, rows: Rows) -> Tensor:
    least = rows_R.amin(_axes(rows_R), keepdim=True)
    outside = torch.stack([_closed(row, numbers) for row, numbers in zip(rows_R, rows, strict=True)])
    return torch.where(outside, least, rows_R)


def _closed(window: Tensor, numbers: tuple[float, ...]) -> Tensor:
    return _put(closed(tuple(window.shape), numbers), torch.bool, window.device)


def _bias_field(rows_R: Tensor, rows: Rows) -> Tensor:
    least = rows_R.amin(_axes(rows_R), keepdim=True)
    fields = []
    for numbers in rows:
        weights, factors = bias_factors(numbers, tuple(rows_R.shape[1:]))
        field = _put(weights, torch.float32, rows_R.device)
        for factor in factors:
            field = torch.tensordot(field, _put(factor, torch.float32, rows_R.device), dims=([0], [1]))
        fields.append(field.exp())
    return (rows_R - least) * torch.stack(fields) + least


def _ghosting(rows_R: Tensor, rows: Rows) -> Tensor:
    made = []
    for row, (axis, ghosts, lost) in zip(rows_R, rows, strict=True):
        made.append(_along(row[None], [ghosting(row.shape[int(axis)], int(ghosts), lost)], int(axis))[0])
    return torch.stack(made)


def _motion(rows_R: Tensor, rows: Rows) -> Tensor:
    made = []
    axes = rows_R.ndim - 1
    for row, numbers in zip(rows_R, rows, strict=True):
        axis, matrix = int(numbers[0]), np.array(numbers[2:]).reshape(axes, axes + 1)
        voxels = torch.meshgrid(*(torch.arange(n, device=row.device, dtype=torch.float32) for n in row.shape), indexing="ij")
        place = [
            sum((v * float(m) for v, m in zip(voxels, line, strict=False)), torch.tensor(float(line[-1]))) for line in matrix
        ]
        moved = _sampled(row[None], torch.stack(place))
        made.append(row + _along(moved - row, [late_lines(row.shape[axis], numbers[1])], axis)[0])
    return torch.stack(made)


def _spike(rows_R: Tensor, rows: Rows) -> Tensor:
    deviation = rows_R.std(_axes(rows_R), correction=0, keepdim=True)
    waves = []
    for numbers in rows:
        factors = spike_factors(numbers, tuple(rows_R.shape[1:]))
        product = _put(factors[0], torch.complex64, rows_R.device)
        for factor in factors[1:]:
            product = product[..., None] * _put(factor, torch.complex64, rows_R.device)
        waves.append(product.real)
    return rows_R + _numbers(rows, 0, rows_R) * deviation * torch.stack(waves)


_KINDS: dict[str, Callable[[Tensor, Rows], Tensor]] = {
    "motion": _motion,
    "ghosting": _ghosting,
    "spike": _spike,
    "bias_field": _bias_field,
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "low_resolution": _low_resolution,
    "inverted_gamma": _inverted_gamma,
    "gamma": _gamma,
    "histogram": _histogram,
    "invert": _invert,
    "collimator": _collimator,
}
