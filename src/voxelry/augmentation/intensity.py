"""Changes of grey values on the CPU, one function a kind (`voxelry.augmentation.draw.ORDER`), as the record says.

Each takes one channel of a window, ``(*patch)`` float32 and contiguous, changes it in place and draws nothing. The GPU's lie in
 `voxelry.augmentation.gpu_augmentation`; tests hold both against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from voxelry.augmentation import intensity_kernels
from voxelry.augmentation import spatial_kernels as augment_kernels
from voxelry.augmentation.artefacts import bias_factors, spike_factors, summed
from voxelry.augmentation.axis_operators import Taps, blur_taps, coarse_taps, ghosting, late_lines
from voxelry.augmentation.draw import Change

Array = NDArray[np.float32]
Numbers = Sequence[float]
_FLAT = 1e-7
"""Grey values that differ by less are one."""


def change_channel(image: Array, change: Change) -> None:
    """Apply one recorded change in place.

    Args:
        image: ``(*patch)`` float32, contiguous: the channel that `change` names.
        change: what to do.
    """
    _KINDS[change.kind](image, change.numbers)


def _statistics(image: Array) -> tuple[float, float, float, float]:
    """Mean, standard deviation, least and largest."""
    total, squares, least, most = intensity_kernels.moments(image.reshape(-1))
    mean = total / image.size
    return mean, math.sqrt(max(0.0, squares / image.size - mean * mean)), least, most


def _noise(image: Array, numbers: Numbers) -> None:
    """Standard deviation, key."""
    intensity_kernels.add_noise(image.reshape(-1), numbers[0], int(numbers[1]))


def _brightness(image: Array, numbers: Numbers) -> None:
    """Factor."""
    intensity_kernels.stretch(image.reshape(-1), numbers[0], 0.0)


def _contrast(image: Array, numbers: Numbers) -> None:
    """Factor of the distance from the mean; the range of values stays."""
    mean, _, least, most = _statistics(image)
    intensity_kernels.stretch_within(image.reshape(-1), numbers[0], mean * (1 - numbers[0]), least, most)


def _gamma(image: Array, numbers: Numbers, sign: float = 1.0) -> None:
    """Exponent, of the values brought to 0..1 (their negative, where `sign` is -1); mean and standard deviation stay."""
    mean, deviation, least, most = _statistics(image)
    width = most - least
    if width < _FLAT:
        return
    low = least if sign > 0 else most
    flat = image.reshape(-1)
    total, squares = intensity_kernels.power(flat, sign / width, -sign * low / width, numbers[0], sign * width, low)
    now = total / image.size
    factor = deviation / max(_FLAT, math.sqrt(max(0.0, squares / image.size - now * now)))
    intensity_kernels.stretch(flat, factor, mean - now * factor)


def _inverted_gamma(image: Array, numbers: Numbers) -> None:
    """Exponent."""
    _gamma(image, numbers, -1)


def _histogram(image: Array, numbers: Numbers) -> None:
    """Knots of a rising curve from 0 to 1."""
    _, _, least, most = _statistics(image)
    if most - least >= _FLAT:
        intensity_kernels.follow_curve(image.reshape(-1), np.array(numbers, dtype=np.float32), least, most)


def _invert(image: Array, _: Numbers) -> None:
    """Nothing."""
    least, most = _statistics(image)[2:]
    intensity_kernels.stretch(image.reshape(-1), -1.0, least + most)


def _blur(image: Array, numbers: Numbers) -> None:
    """Standard deviation along each axis."""
    _along(image, [blur_taps(size, sigma) if sigma else None for size, sigma in zip(image.shape, numbers, strict=True)])


def _low_resolution(image: Array, numbers: Numbers) -> None:
    """Voxels of the coarse grid along each axis."""
    coarse = [(size, int(number)) for size, number in zip(image.shape, numbers, strict=True)]
    _along(image, [coarse_taps(size, number) if number != size else None for size, number in coarse])


def _along(image: Array, operators: list[Taps | None]) -> None:
    """Apply taps along each axis in turn."""
    source, spare = image, np.empty_like(image)
    for axis, taps in enumerate(operators):
        if taps is None:
            continue
        size, (place, weights) = image.shape[axis], taps
        if axis == image.ndim - 1:
            reach = place.shape[1] // 2
            even = size > 2 * reach and bool((place[size // 2] == size // 2 + np.arange(-reach, place.shape[1] - reach)).all())
            same = even and bool((weights == weights[0]).all())
            first, last = (reach, size - reach) if same else (0, 0)
            intensity_kernels.sum_last(source.reshape(-1, size), place, weights, first, last, spare.reshape(-1, size))
        else:
            shape = (math.prod(image.shape[:axis]), size, math.prod(image.shape[axis + 1 :]))
            intensity_kernels.sum_taps(source.reshape(shape), place, weights, spare.reshape(shape))
        source, spare = spare, source
    if source is not image:
        image[...] = source


def _collimator(image: Array, numbers: Numbers) -> None:
    """First and last open voxel of each axis; beyond, the least value."""
    outside = closed(image.shape, numbers)
    image[outside] = image.min()


def closed(shape: tuple[int, ...], numbers: Numbers) -> NDArray[np.bool_]:
    """Where a collimator's borders are, ``shape``."""
    outside = np.ones(shape, dtype=bool)
    outside[tuple(slice(int(a), int(b)) for a, b in zip(numbers[::2], numbers[1::2], strict=True))] = False
    return outside


def _bias_field(image: Array, numbers: Numbers) -> None:
    """See `bias_factors`. Air gives no signal, so the field multiplies the distance from the least value."""
    field = np.exp(summed(*bias_factors(numbers, image.shape)))
    least = image.min()
    image -= least
    image *= field
    image += least


def _ghosting(image: Array, numbers: Numbers) -> None:
    """Axis, ghosts, share lost."""
    axis = int(numbers[0])
    image[...] = _product(ghosting(image.shape[axis], int(numbers[1]), numbers[2]), image, axis)


def _motion(image: Array, numbers: Numbers) -> None:
    """Axis, share of k-space filled before the move, the move's matrix."""
    axis, axes = int(numbers[0]), image.ndim
    late = late_lines(image.shape[axis], numbers[1])
    moved = moved_image(image, np.array(numbers[2:]).reshape(axes, axes + 1))
    image += _product(late, moved - image, axis)


def moved_image(image: Array, matrix: NDArray[np.float64]) -> Array:
    """A channel moved by `matrix`, linearly interpolated, 0 beyond the window."""
    missing = 3 - image.ndim
    whole = np.eye(3, 4)
    whole[missing:, missing:] = matrix
    shape = np.array((1,) * (1 + missing) + image.shape)
    steps = np.cumprod((1, *shape[:0:-1]))[::-1].astype(np.int64)
    none, moved = np.zeros(image.size, dtype=np.int16), np.empty(image.size, dtype=np.int64)
    out = np.empty(image.size, dtype=np.float32)
    table = np.zeros(2, dtype=np.int64)
    move = augment_kernels.move_planes if missing else augment_kernels.move_volume
    move(image.reshape(-1), none, table, steps, shape, whole, out, moved, 0, 0, steps, shape[1:])
    return out.reshape(image.shape)


def _spike(image: Array, numbers: Numbers) -> None:
    """Height in standard deviations, phase, waves along each axis."""
    wave = spike_factors(numbers, image.shape)
    product = wave[0]
    for factor in wave[1:]:
        product = product[..., None] * factor
    image += numbers[0] * _statistics(image)[1] * product.real


def _product(matrix: Array, image: Array, axis: int) -> Array:
    """A matrix times every line along an axis."""
    return np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)


_KINDS: dict[str, Callable[[Array, Numbers], None]] = {
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
