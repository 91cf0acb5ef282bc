"""From a fingerprint to a plan, by nnU-Net's rules (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z) within a device's means.

On a GPU windows are large and networks wide; on a CPU a small network that takes many steps learns more in the same time
than a large one that takes few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxelry.config import PlanSettings
from voxelry.errors import ConfigError
from voxelry.plan import Fingerprint, NetworkPlan, Normalisation, Plan
from voxelry.prepare.fingerprint import CANONICAL

SMALLEST_EDGE = 4
ANISOTROPY = 3.0


@dataclass(frozen=True)
class Means:
    """What a device affords: voxels of a window, windows a step, channels of the first and the widest stage, stages."""

    voxels: int
    batch: int
    first: int
    widest: int
    stages: int


MEANS = {
    ("cpu", 3): Means(96_000, 2, 16, 128, 4),
    ("cpu", 2): Means(256 * 256, 8, 16, 256, 6),
    ("cuda", 3): Means(128**3, 2, 32, 320, 6),
    ("cuda", 2): Means(512 * 512, 12, 32, 512, 8),
}


def make_plan(
    seen: Fingerprint, settings: PlanSettings, device: str = "cpu", overlap: float = 0.5, flips: tuple[int, ...] = ()
) -> Plan:
    """Plan preparation, window, batch and network for a dataset.

    Args:
        seen: the dataset's fingerprint.
        settings: what the user has decided already.
        device: ``cpu`` or ``cuda``.
        overlap: of neighbouring windows at inference.
        flips: axes mirrored at inference.

    Returns:
        A plan that says why.

    Raises:
        ConfigError: a setting has the wrong number of axes.
    """
    _check_axes(settings, seen.dimensions)
    means = MEANS["cuda" if device.startswith("cuda") else "cpu", seen.dimensions]
    reasons: list[str] = []
    spacing = settings.spacing or _spacing(seen, reasons)
    long_side = None
    if seen.dimensions == 2:
        long_side = settings.long_side or min(max(seen.shapes[1]), math.isqrt(means.voxels))
        reasons.append(f"pictures are scaled to {long_side} pixels along their longer edge: their physical size is not compared")
    median = _median_shape(seen, spacing, long_side)
    size_mm = spacing if spacing is not None else (1.0,) * seen.dimensions
    wanted = settings.patch_size or window(median, size_mm, means.voxels)
    network = topology(wanted, size_mm, means, settings)
    patch = tuple(math.ceil(edge / d) * d for edge, d in zip(wanted, network.divisor, strict=True))
    if settings.patch_size is None:
        reasons.append(f"window {_by(patch)} of a median case of {_by(median)} voxels: what a {device} step affords")
    return Plan(
        dimensions=seen.dimensions,
        channels=seen.channels,
        orientation=_orientation(seen, settings),
        spacing=spacing,
        long_side=long_side,
        normalisation=_normalisation(seen, reasons),
        patch_size=patch,
        batch_size=settings.batch_size or means.batch,
        network=network,
        overlap=overlap,
        flips=flips,
        reasons=tuple(reasons),
    )


def window(median: tuple[int, ...], spacing: tuple[float, ...], voxels: int) -> tuple[int, ...]:
    """The largest block of at most `voxels` voxels that is a cube in mm where the median case does not bound it.

    Args:
        median: voxels of the median case along each axis.
        spacing: mm along each axis.
        voxels: the bound.
    """
    low, high = 0.0, max(n * s for n, s in zip(median, spacing, strict=True))
    for _ in range(60):
        edge = (low + high) / 2
        if math.prod(_block(edge, median, spacing)) <= voxels:
            low = edge
        else:
            high = edge
    largest = _block(high, median, spacing)
    return largest if math.prod(largest) <= voxels else _block(low, median, spacing)


def _block(edge: float, median: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(max(1, min(n, round(edge / s))) for n, s in zip(median, spacing, strict=True))


def topology(patch: tuple[int, ...], spacing: tuple[float, ...], means: Means, settings: PlanSettings) -> NetworkPlan:
    """Stages, strides and kernels: an axis is halved while it stays at least 4 voxels and less than twice the finest spacing.

    Args:
        patch: window in voxels.
        spacing: mm along each axis.
        means: what the device affords.
        settings: what the user has decided.
    """
    stages = len(settings.features) if settings.features else means.stages
    size, now = list(patch), list(spacing)
    strides = [(1,) * len(patch)]
    kernels = [_kernel(now)]
    while len(strides) < stages:
        halved = [math.ceil(n / 2) >= SMALLEST_EDGE and s < 2 * min(now) for n, s in zip(size, now, strict=True)]
        if not any(halved):
            break
        strides.append(tuple(2 if half else 1 for half in halved))
        size = [math.ceil(n / 2) if half else n for n, half in zip(size, halved, strict=True)]
        now = [s * 2 if half else s for s, half in zip(now, halved, strict=True)]
        kernels.append(_kernel(now))
    features = settings.features or tuple(min(means.first * 2**stage, means.widest) for stage in range(len(strides)))
    if len(strides) < 2:
        raise ConfigError(f"a window of {_by(patch)} voxels is too small for a U-Net", remedy="Use a larger patch_size.")
    return NetworkPlan(
        name=settings.network or "dynunet",
        features=features[: len(strides)],
        strides=tuple(strides),
        kernels=tuple(kernels),
        deep_supervision=max(0, min(2, len(strides) - 2)),
    )


def _kernel(spacing: list[float]) -> tuple[int, ...]:
    return tuple(1 if s > 2 * min(spacing) else 3 for s in spacing)


def _spacing(seen: Fingerprint, reasons: list[str]) -> tuple[float, ...] | None:
    if seen.dimensions == 2 or seen.spacing is None or seen.spacing_range is None:
        return None
    spacing = list(seen.spacing)
    thick = max(range(3), key=lambda axis: spacing[axis])
    others = [spacing[axis] for axis in range(3) if axis != thick]
    sizes = [seen.shapes[1][axis] for axis in range(3) if axis != thick]
    if spacing[thick] > ANISOTROPY * max(others) and seen.shapes[1][thick] * ANISOTROPY < min(sizes):
        spacing[thick] = max(max(others), seen.spacing_range[0][thick])
        reasons.append(
            f"slices lie {seen.spacing[thick]:g} mm apart; the finest in the set, {spacing[thick]:g} mm, is the target"
        )
    else:
        reasons.append(f"spacing {_by(spacing)} mm is the median of the cases")
    return tuple(spacing)


def _median_shape(seen: Fingerprint, spacing: tuple[float, ...] | None, long_side: int | None) -> tuple[int, ...]:
    shape = seen.shapes[1]
    if long_side is not None:
        return tuple(max(1, round(n * long_side / max(shape))) for n in shape)
    if spacing is None or seen.spacing is None:
        return shape
    return tuple(max(1, round(n * now / then)) for n, now, then in zip(shape, seen.spacing, spacing, strict=True))


def _orientation(seen: Fingerprint, settings: PlanSettings) -> str | None:
    if seen.dimensions == 2 or settings.orientation == "stored":
        return None
    return settings.orientation or CANONICAL


def _normalisation(seen: Fingerprint, reasons: list[str]) -> tuple[Normalisation, ...]:
    if seen.modality != "CT":
        reasons.append("grey values have no absolute scale: each image is brought to mean 0 and standard deviation 1")
        return (Normalisation(scheme="image"),) * len(seen.channels)
    reasons.append("CT values are absolute: clipped and scaled by the labelled voxels of the whole set")
    return tuple(
        Normalisation(scheme="global", low=s.p005, high=s.p995, mean=s.mean, std=max(s.std, 1e-6)) for s in seen.statistics
    )


def _check_axes(settings: PlanSettings, dimensions: int) -> None:
    for key in ("spacing", "patch_size"):
        value = getattr(settings, key)
        if value is not None and len(value) != dimensions:
            raise ConfigError(f"plan.{key} is {list(value)}: {dimensions} numbers are needed for {dimensions}D data")


def _by(values: tuple[float, ...] | list[float] | tuple[int, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)
