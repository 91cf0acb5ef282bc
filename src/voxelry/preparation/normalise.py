"""Grey values on a common scale, in place: a prepared image is never held twice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelry.base.threads import run_slabs
from voxelry.core.plan import Normalisation

_SMALLEST_STD = 1e-6
_PIECE = 2**16  # values worked on at once, few enough to stay in the cache


@dataclass(frozen=True)
class Scaling:
    """What is done to each value of a channel: clip, subtract `mean`, divide by `std`.

    Attributes:
        mean: grey value that becomes 0.
        std: grey values that become 1.
        limits: the lowest and highest grey value kept, None where all are.
    """

    mean: float
    std: float
    limits: tuple[float, float] | None = None

    def apply(self, values: NDArray[np.float32], inside: NDArray[np.bool_] | None = None) -> None:
        """Scale values in place, on the pool.

        Args:
            values: ``(n,)`` float32, contiguous.
            inside: ``(n,)`` bool, what is kept; the rest becomes 0.
        """

        def stretch(first: int, last: int) -> None:
            for begin in range(first, last, _PIECE):
                place = slice(begin, min(begin + _PIECE, last))
                piece = values[place]
                if self.limits is not None:
                    np.clip(piece, *self.limits, out=piece)
                piece -= self.mean
                piece /= max(self.std, _SMALLEST_STD)
                if inside is not None:
                    piece[~inside[place]] = 0

        run_slabs(stretch, values.size, pieces=-(-values.size // (4 * _PIECE)))


class Moments:
    """Mean and standard deviation of values that come part by part, in float64 (Chan et al. 1979)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Take some more values, ``(n,)``."""
        for begin in range(0, values.size, _PIECE):
            piece = values[begin : begin + _PIECE]
            mean = float(piece.mean(dtype=np.float64))
            apart, count = mean - self._mean, self._count + piece.size
            self._squares += float(np.square(piece - mean, dtype=np.float64).sum()) + apart**2 * self._count * piece.size / count
            self._mean += apart * piece.size / count
            self._count = count

    @property
    def scaling(self) -> Scaling:
        """To mean 0 and deviation 1; nothing but 0 for values that are all the same, or for none."""
        return Scaling(self._mean, math.sqrt(self._squares / max(1, self._count)))


def normalise(image: NDArray[np.float32], schemes: tuple[Normalisation, ...], inside: NDArray[np.bool_] | None = None) -> None:
    """Normalise each channel by its scheme, in place; a constant channel becomes 0.

    Args:
        image: ``(C, *spatial)`` float32 grey values, C-contiguous; without unit afterwards.
        schemes: one per channel.
        inside: ``(*spatial)`` bool, the content; needed by the scheme ``mask``.
    """
    flat = None if inside is None else inside.reshape(-1)
    for channel, scheme in zip(image.reshape(len(image), -1), schemes, strict=True):
        kept = flat if scheme.scheme == "mask" else None
        scaling_of(scheme, [(channel, kept)]).apply(channel, kept)


def scaling_of(scheme: Normalisation, parts: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]) -> Scaling:
    """What a scheme does to a channel.

    Args:
        scheme: of the channel.
        parts: the channel's values and what of them is content, part by part; gone through only where the scheme asks for it.
    """
    if scheme.scheme == "global":
        assert scheme.low is not None
        assert scheme.high is not None
        assert scheme.mean is not None
        assert scheme.std is not None
        return Scaling(scheme.mean, scheme.std, (scheme.low, scheme.high))
    moments = Moments()
    for values, inside in parts:
        moments.add(values if inside is None else values[inside])
    return moments.scaling
