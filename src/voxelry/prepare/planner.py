"""From a fingerprint to a plan, by nnU-Net's rules (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z) within a device's means.

On a GPU windows are large and networks wide; on a CPU a small network that takes many steps learns more in the same time
than a large one that takes few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxelry.config import PlanSettings
from voxelry.errors import ConfigError
from voxelry.plan import FEWEST_STAGES, Fingerprint, NetworkPlan, Normalisation, Plan, axis_codes
from voxelry.prepare.fingerprint import CANONICAL

SMALLEST_EDGE = 4
ANISOTROPY = 3.0
CONTENT = 0.75
"""Where cropping to the content leaves less than this share of a median case, grey values are normalised inside the content."""


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
        seen: the dataset's fingerprint, axes in RAS order.
        settings: what the user has decided already.
        device: ``cpu`` or ``cuda``.
        overlap: of neighbouring windows at inference.
        flips: axes mirrored at inference.

    Returns:
        A plan that says why.

    Raises:
        ConfigError: a setting has the wrong number of axes, or does not apply to the data.
    """
    _check(settings, seen, flips)
    orientation = _orientation(seen, settings)
    seen = _ordered(seen, orientation)
    means = MEANS["cuda" if device.startswith("cuda") else "cpu", seen.dimensions]
    reasons: list[str] = []
    spacing = settings.spacing or _spacing(seen, reasons)
    long_side = None
    if seen.dimensions == 2 and spacing is None:
        long_side = settings.long_side or min(max(seen.shapes[1]), math.isqrt(means.voxels))
        reasons.append(f"pictures are scaled to {long_side} pixels along their longer edge: their physical size is not compared")
    median = _median_shape(seen, spacing, long_side)
    size_mm = spacing if spacing is not None else (1.0,) * seen.dimensions
    wanted = settings.patch_size or window(median, size_mm, means.voxels)
    network = topology(wanted, size_mm, means, settings)
    patch = tuple(math.ceil(edge / d) * d for edge, d in zip(wanted, network.divisor, strict=True))
    if settings.patch_size is None:
        reasons.append(f"window {_by(patch)} of a median case of {_by(median)} voxels: what a {device} step affords")
    elif patch != wanted:
        reasons.append(f"window {_by(wanted)} widened to {_by(patch)}, which the network's strides divide")
    if settings.features and len(network.features) < len(settings.features):
        reasons.append(f"{len(network.features)} of {len(settings.features)} stages: the window allows no more")
    return Plan(
        dimensions=seen.dimensions,
        channels=seen.channels,
        orientation=orientation,
        spacing=spacing,
        long_side=long_side,
        coarse_axis=_coarse_axis(seen, spacing, reasons),
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
    """Stages, strides and kernels.

    An axis is halved while it keeps 4 voxels and is less than twice as coarse as the finest axis that keeps them.

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
        long = [math.ceil(n / 2) >= SMALLEST_EDGE for n in size]
        if not any(long):
            break
        finest = min(s for s, enough in zip(now, long, strict=True) if enough)
        halved = [enough and s < 2 * finest for s, enough in zip(now, long, strict=True)]
        strides.append(tuple(2 if half else 1 for half in halved))
        size = [math.ceil(n / 2) if half else n for n, half in zip(size, halved, strict=True)]
        now = [s * 2 if half else s for s, half in zip(now, halved, strict=True)]
        kernels.append(_kernel(now))
    features = settings.features or tuple(min(means.first * 2**stage, means.widest) for stage in range(len(strides)))
    name = settings.network or ("dynunet" if len(strides) >= FEWEST_STAGES["dynunet"] else "unet")
    if len(strides) < FEWEST_STAGES[name]:
        raise ConfigError(
            f"a window of {_by(patch)} voxels and {stages} stages are too small for network '{name}'",
            remedy=f"It has at least {FEWEST_STAGES[name]} stages, the coarsest of 4 voxels: enlarge plan.patch_size.",
        )
    return NetworkPlan(
        name=name,
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
        reasons.append(f"slices lie {seen.spacing[thick]:g} mm apart, the target is {spacing[thick]:g} mm: the finest of the set")
    else:
        reasons.append(f"spacing {_by(spacing)} mm is the median of the cases")
    return tuple(spacing)


def _coarse_axis(seen: Fingerprint, spacing: tuple[float, ...] | None, reasons: list[str]) -> int | None:
    """The coarse axis of the median case, or else of the target."""
    if seen.dimensions == 2 or spacing is None:
        return None
    for voxel in (seen.spacing or spacing, spacing):
        axis = coarse_axis(voxel)
        if axis is not None:
            reasons.append(
                f"voxels are {_by(voxel)} mm: nothing is interpolated along axis {axis}, slices are resampled one by one"
            )
            return axis
    return None


def coarse_axis(voxel: tuple[float, ...]) -> int | None:
    """The axis along which a voxel is more than `ANISOTROPY` times longer than along the finest, None without a single such.

    Args:
        voxel: mm along each axis.
    """
    longest = max(voxel)
    alone = sum(length == longest for length in voxel) == 1
    return voxel.index(longest) if alone and longest > ANISOTROPY * min(voxel) else None


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
    try:
        return axis_codes(settings.orientation or CANONICAL)
    except ValueError as error:
        raise ConfigError(f"plan.orientation: {error}, or 'stored'") from error


def _ordered(seen: Fingerprint, orientation: str | None) -> Fingerprint:
    """The fingerprint with its axes in the plan's order instead of RAS."""
    if seen.dimensions == 2:
        return seen
    orders = {_axis_order(codes) for codes in ([orientation] if orientation else seen.orientations)}
    if len(orders) > 1:
        stored = ", ".join(sorted(seen.orientations))
        raise ConfigError(
            f"plan.orientation is 'stored', but the cases' axes differ in order ({stored})", remedy="Set plan.orientation to RAS."
        )
    order = orders.pop()

    def moved(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(values[axis] for axis in order)

    ranges = seen.spacing_range
    return seen.model_copy(
        update={
            "shapes": tuple(moved(shape) for shape in seen.shapes),
            "spacing": None if seen.spacing is None else moved(seen.spacing),
            "spacing_range": None if ranges is None else (moved(ranges[0]), moved(ranges[1])),
        }
    )


def _axis_order(codes: str) -> tuple[int, ...]:
    return tuple(next(axis for axis, pair in enumerate(("RL", "AP", "SI")) if code in pair) for code in codes)


def _normalisation(seen: Fingerprint, reasons: list[str]) -> tuple[Normalisation, ...]:
    if seen.modality != "CT":
        inside = seen.content < CONTENT
        where = f" inside its content, {seen.content:.0%} of a median case" if inside else ""
        reasons.append(f"grey values have no absolute scale: each image is brought to mean 0 and standard deviation 1{where}")
        return (Normalisation(scheme="mask" if inside else "image"),) * len(seen.channels)
    reasons.append("CT values are absolute: clipped and scaled by the labelled voxels of the whole set")
    return tuple(
        Normalisation(scheme="global", low=s.p005, high=s.p995, mean=s.mean, std=max(s.std, 1e-6)) for s in seen.statistics
    )


def _check(settings: PlanSettings, seen: Fingerprint, flips: tuple[int, ...]) -> None:
    dimensions = seen.dimensions
    for key in ("spacing", "patch_size"):
        value = getattr(settings, key)
        if value is not None and len(value) != dimensions:
            raise ConfigError(f"plan.{key} is {list(value)}: {dimensions} numbers are needed for {dimensions}D data")
    if len(set(flips)) != len(flips) or not set(flips) <= set(range(dimensions)):
        raise ConfigError(f"flips is {list(flips)}: the data have axes 0..{dimensions - 1}", remedy="Name each at most once.")
    if settings.long_side and (dimensions == 3 or settings.spacing):
        other = "3D data" if dimensions == 3 else "plan.spacing"
        raise ConfigError(f"plan.long_side is {settings.long_side} beside {other}", remedy="Leave plan.long_side out.")
    if settings.spacing and seen.spacing is None:
        raise ConfigError(
            f"plan.spacing is {list(settings.spacing)}, but some pictures do not say their pixel size",
            remedy="Leave plan.spacing out, or set plan.long_side.",
        )


def _by(values: tuple[float, ...] | list[float] | tuple[int, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)
