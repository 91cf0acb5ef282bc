"""Normalisation of grey values, in place: a prepared image is never held twice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelry.base.threads import run_slabs
from voxelry.core.plan import Normalisation

ROUNDING = 2 * float(np.finfo(np.float32).eps)
"""A deviation that is no larger a share of the mean is the rounding of values that are all equal."""

_CHUNK = 2**16  # values processed at a time, few enough to stay in the processor's cache


@dataclass(frozen=True)
class Scaling:
    """The scaling of a channel: clip, subtract `mean`, divide by `std`.

    Attributes:
        mean: grey value that becomes 0.
        std: distance of grey values that becomes 1, however small (maps of diffusion hold values around 1e-9); where it is 0,
            every value becomes 0.
        limits: lowest and highest grey value, to which others are clipped; None without clipping.
    """

    mean: float
    std: float
    limits: tuple[float, float] | None = None

    def apply(self, values: NDArray[np.float32], inside: NDArray[np.bool_] | None = None) -> None:
        """Scale values in place, on the pool.

        Args:
            values: ``(n,)`` float32, contiguous.
            inside: ``(n,)`` bool, the content; values outside become 0.
        """

        def scale(first: int, last: int) -> None:
            for begin in range(first, last, _CHUNK):
                section = slice(begin, min(begin + _CHUNK, last))
                chunk = values[section]
                if self.limits is not None:
                    np.clip(chunk, *self.limits, out=chunk)
                if self.std:
                    chunk -= self.mean
                    chunk /= self.std
                else:
                    chunk[...] = 0
                if inside is not None:
                    chunk[~inside[section]] = 0

        run_slabs(scale, values.size, pieces=-(-values.size // (4 * _CHUNK)))


class Moments:
    """Mean and standard deviation of values that are added in chunks, in float64 (Chan et al. 1979)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Add values, ``(n,)``."""
        for begin in range(0, values.size, _CHUNK):
            chunk = values[begin : begin + _CHUNK]
            mean = float(chunk.mean(dtype=np.float64))
            step, count = mean - self._mean, self._count + chunk.size
            self._squares += float(np.square(chunk - mean, dtype=np.float64).sum()) + step**2 * self._count * chunk.size / count
            self._mean += step * chunk.size / count
            self._count = count

    @property
    def scaling(self) -> Scaling:
        """The scaling to mean 0 and deviation 1; values that are all equal become 0."""
        std = math.sqrt(self._squares / max(1, self._count))
        smallest = max(ROUNDING * abs(self._mean), float(np.finfo(np.float32).tiny))
        return Scaling(self._mean, std if std > smallest else 0.0)


def normalise(image: NDArray[np.float32], schemes: tuple[Normalisation, ...], inside: NDArray[np.bool_] | None = None) -> None:
    """Normalise each channel by its scheme, in place; a constant channel becomes 0.

    Args:
        image: ``(C, *spatial)`` float32 grey values, C-contiguous; without unit afterwards.
        schemes: scheme of each channel.
        inside: ``(*spatial)`` bool, the content; needed by the scheme ``mask``.

    Example:
        >>> import numpy as np
        >>> from voxelry.core.plan import Normalisation
        >>> image = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
        >>> normalise(image, (Normalisation(scheme="image"),))
        >>> round(float(image.min()), 2), round(float(image.max()), 2)
        (-1.53, 1.53)
    """
    flat = None if inside is None else inside.reshape(-1)
    for channel, scheme in zip(image.reshape(len(image), -1), schemes, strict=True):
        content = flat if scheme.scheme == "mask" else None
        scaling_of(scheme, [(channel, content)]).apply(channel, content)


def scaling_of(scheme: Normalisation, chunks: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]) -> Scaling:
    """The scaling of a channel by its scheme.

    Args:
        scheme: scheme of the channel.
        chunks: the channel's values and their content mask, in chunks; consumed only where the scheme needs them.
    """
    if scheme.scheme == "global":
        assert scheme.low is not None
        assert scheme.high is not None
        assert scheme.mean is not None
        assert scheme.std is not None
        return Scaling(scheme.mean, scheme.std, (scheme.low, scheme.high))
    if scheme.scheme == "none":
        return Scaling(0.0, 1.0)
    if scheme.scheme == "range":
        extremes = [(values.min(), values.max()) for values, _ in chunks]
        low, high = float(min(low for low, _ in extremes)), float(max(high for _, high in extremes))
        return Scaling(low, high - low)
    moments = Moments()
    for values, inside in chunks:
        moments.add(values if inside is None else values[inside])
    return moments.scaling
