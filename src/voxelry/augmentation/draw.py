"""What is drawn for one training window, apart from applying it: a frozen record that one seed repeats, on every device.

Noise is not drawn here, voxel by voxel, but its key: it follows from that and the voxel's number alone, the same on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelry.base.schema import Frozen
from voxelry.core.plan import Plan
from voxelry.recipes.settings import AugmentSettings

ANISOTROPY = 3.0
"""A window so many times longer than it is across its coarsest axis is changed within its planes alone."""
ELONGATED = 1.5
CONTROL_POINTS = 6
"""Along each axis, of elastic deformation and of grey value curves."""
DEGREE = 3
"""Of the bias field's polynomial."""
ORDER = (
    "motion",
    "ghosting",
    "spike",
    "bias_field",
    "noise",
    "blur",
    "brightness",
    "contrast",
    "low_resolution",
    "inverted_gamma",
    "gamma",
    "histogram",
    "invert",
    "collimator",
)
"""In which changes of grey values follow each other: the scanner's first, then the recipe's in its order, then the film's."""


class Change(Frozen):
    """One change of one channel's grey values.

    Attributes:
        kind: one of `ORDER`.
        channel: which it changes.
        numbers: its parameters; what they are, `voxelry.augmentation.intensity` says of each kind.
    """

    kind: str
    channel: int
    numbers: tuple[float, ...]


class Draw(Frozen):
    """All that is done to one window.

    Attributes:
        matrix: ``(axes, axes + 1)``, output voxel to input voxel of the window; None where nothing moves but mirrors.
        elastic: largest displacement in voxels and the key of its control points; None without deformation.
        flips: mirrored axes.
        changes: of grey values, in the order they are applied.
        previous: key of the changes to a cascade's first labels.
    """

    matrix: tuple[tuple[float, ...], ...] | None = None
    elastic: tuple[float, int] | None = None
    flips: tuple[int, ...] = ()
    changes: tuple[Change, ...] = ()
    previous: int = 0

    @property
    def moves(self) -> bool:
        """Whether grey values are interpolated."""
        return self.matrix is not None or self.elastic is not None


@dataclass(frozen=True)
class Frame:
    """What drawing must know of a plan.

    Attributes:
        patch: window in voxels.
        spacing: mm of each axis, relative where unknown.
        channels: of the image.
        plane: the axes that may be turned and zoomed.
        degrees: largest rotation where the settings leave it to the recipe.
    """

    patch: tuple[int, ...]
    spacing: tuple[float, ...]
    channels: int
    plane: tuple[int, ...]
    degrees: float

    @classmethod
    def of(cls, plan: Plan) -> Frame:
        """By the recipe's rules: anisotropic windows are changed within their planes, elongated pictures turned less."""
        patch, axes = plan.patch_size, tuple(range(plan.dimensions))
        known = plan.spacing or (None,) * plan.dimensions
        spacing = tuple(value or 1.0 for value in known)
        across = _across(plan, spacing)
        plane = tuple(axis for axis in axes if axis != across)
        edges = [patch[axis] for axis in plane]
        in_plane = 15.0 if plan.dimensions - (plan.slice_axis is not None) == 2 and max(edges) > ELONGATED * min(edges) else 180.0
        return cls(patch, spacing, len(plan.channels), plane, 30.0 if len(plane) == 3 else in_plane)


def _across(plan: Plan, spacing: tuple[float, ...]) -> int | None:
    """The axis across which windows are never interpolated, if there is one."""
    if plan.dimensions == 2:
        return None
    if plan.slice_axis is not None:
        return plan.slice_axis
    if plan.coarse_axis is not None:
        return plan.coarse_axis
    coarsest = max(range(3), key=lambda axis: (spacing[axis], -plan.patch_size[axis]))
    return coarsest if max(plan.patch_size) > ANISOTROPY * plan.patch_size[coarsest] else None


def draw(settings: AugmentSettings, frame: Frame, flip_axes: tuple[int, ...], seed: int) -> Draw:
    """Everything random about one window.

    Args:
        settings: probabilities and ranges.
        frame: of the plan.
        flip_axes: axes that may be mirrored.
        seed: of this window; the same seed gives the same draw.

    Returns:
        The record to apply.
    """
    random = np.random.default_rng(seed)
    matrix = _matrix(settings, frame, random)
    elastic = None
    if random.random() < settings.elastic:
        elastic = float(random.uniform(0, settings.elastic_voxels)), _key(random)
    flips = tuple(axis for axis in flip_axes if random.random() < settings.flip)
    changes = [change for kind in ORDER for change in _changes(kind, Source(settings, frame, random))]
    return Draw(matrix=matrix, elastic=elastic, flips=flips, changes=tuple(changes), previous=_key(random))


def _key(random: np.random.Generator) -> int:
    return int(random.integers(2**32))


def _matrix(settings: AugmentSettings, frame: Frame, random: np.random.Generator) -> tuple[tuple[float, ...], ...] | None:
    angles = zoom = offset = None
    if random.random() < settings.rotation_p:
        most = frame.degrees if settings.rotation is None else settings.rotation
        angles = np.radians(random.uniform(-most, most, 3 if len(frame.plane) == 3 else 1))
    if random.random() < settings.scale_p:
        zoom = random.uniform(*settings.scale)
    if random.random() < settings.shift_p:
        offset = random.uniform(-settings.shift, settings.shift, len(frame.plane))
    if angles is None and zoom is None and offset is None:
        return None
    return affine(
        frame,
        np.zeros(3 if len(frame.plane) == 3 else 1) if angles is None else angles,
        1.0 if zoom is None else zoom,
        np.zeros(len(frame.plane)) if offset is None else offset * np.array([frame.patch[axis] for axis in frame.plane]),
    )


def affine(frame: Frame, angles: NDArray[np.float64], zoom: float, shift: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Turn about the window's centre, in mm, then zoom and shift.

    Args:
        frame: of the plan.
        angles: radians about each axis in turn, or the one angle in the plane.
        zoom: above 1 enlarges.
        shift: voxels along each axis of the plane.

    Returns:
        ``(axes, axes + 1)``, output voxel to input voxel.
    """
    axes, plane = len(frame.patch), list(frame.plane)
    turn = np.eye(axes)
    pairs = [(1, 2), (0, 2), (0, 1)] if len(plane) == 3 else [(plane[0], plane[1])]
    for (one, two), angle in zip(pairs, angles.tolist(), strict=True):
        step = np.eye(axes)
        step[one, one] = step[two, two] = math.cos(angle)
        step[one, two], step[two, one] = -math.sin(angle), math.sin(angle)
        turn = turn @ step
    scale = np.ones(axes)
    scale[plane] = zoom
    size = np.array(frame.spacing)
    linear = turn * size[None, :] / size[:, None] / scale[None, :]
    moved = np.zeros(axes)
    moved[plane] = shift
    centre = (np.array(frame.patch) - 1) / 2
    offset = centre - linear @ (centre + moved)
    return tuple((*row, last) for row, last in zip(linear.tolist(), offset.tolist(), strict=True))


@dataclass(frozen=True)
class Source:
    """What the numbers of a change are drawn from."""

    settings: AugmentSettings
    frame: Frame
    random: np.random.Generator


def _changes(kind: str, source: Source) -> list[Change]:
    """The recipe draws once a window whether; then for each channel how, and for blur and low resolution whether, too."""
    if source.random.random() >= getattr(source.settings, kind):
        return []
    made = []
    shared = _NUMBERS[kind](source) if kind in ("noise", "collimator") else None
    for channel in range(source.frame.channels):
        if kind in ("blur", "low_resolution") and source.random.random() >= source.settings.per_channel:
            continue
        numbers = shared or _NUMBERS[kind](source)
        if kind == "noise":
            numbers = (numbers[0], float(_key(source.random)))
        made.append(Change(kind=kind, channel=channel, numbers=numbers))
    return made


def _either_side(limits: tuple[float, float], random: np.random.Generator) -> float:
    """As often below 1 as above, uniform on each side."""
    low, high = limits
    if low < 1 < high:
        return float(random.uniform(low, 1) if random.random() < 0.5 else random.uniform(1, high))
    return float(random.uniform(low, high))


def _noise(source: Source) -> tuple[float, ...]:
    return (float(source.random.uniform(0, source.settings.noise_sigma)),)


def _blur(source: Source) -> tuple[float, ...]:
    drawn = source.random.uniform(*source.settings.blur_sigma, len(source.frame.patch)).tolist()
    return tuple(sigma if axis in source.frame.plane else 0.0 for axis, sigma in enumerate(drawn))


def _factor(source: Source) -> tuple[float, ...]:
    return (_either_side(source.settings.factor, source.random),)


def _low_resolution(source: Source) -> tuple[float, ...]:
    scale = float(source.random.uniform(*source.settings.low_resolution_scale))
    return tuple(
        float(max(1, round(edge * scale))) if axis in source.frame.plane else float(edge)
        for axis, edge in enumerate(source.frame.patch)
    )


def _gamma(source: Source) -> tuple[float, ...]:
    return (_either_side(source.settings.gamma_range, source.random),)


def _histogram(source: Source) -> tuple[float, ...]:
    """Evenly spaced grey values, each moved less than half way to its neighbours: the curve rises."""
    knots = np.linspace(0, 1, CONTROL_POINTS)
    knots[1:-1] += source.random.uniform(-0.45, 0.45, CONTROL_POINTS - 2) / (CONTROL_POINTS - 1)
    return tuple(knots.tolist())


def _invert(_: Source) -> tuple[float, ...]:
    return ()


def _collimator(source: Source) -> tuple[float, ...]:
    """First and last open voxel of each axis of the plane; each border is there half the time."""
    result: list[float] = []
    for axis, edge in enumerate(source.frame.patch):
        width = (
            source.random.uniform(0, source.settings.collimator_share, 2)
            * (source.random.random(2) < 0.5)
            * (axis in source.frame.plane)
        )
        result += [float(round(width[0] * edge)), float(edge - round(width[1] * edge))]
    return tuple(result)


def _bias_field(source: Source) -> tuple[float, ...]:
    """How many Legendre polynomials each axis has, then their coefficients, 0 where degrees sum up to more than `DEGREE`."""
    shape = tuple(DEGREE + 1 if axis in source.frame.plane else 1 for axis in range(len(source.frame.patch)))
    drawn = source.random.uniform(-source.settings.bias_field_strength, source.settings.bias_field_strength, shape)
    drawn[np.indices(shape).sum(axis=0) > DEGREE] = 0
    return (*(float(count) for count in shape), *drawn.ravel().tolist())


def _ghosting(source: Source) -> tuple[float, ...]:
    """Axis, number of ghosts, share lost."""
    return (
        float(source.random.choice(source.frame.plane)),
        float(source.random.integers(2, 9)),
        float(source.random.uniform(*source.settings.ghosting_strength)),
    )


def _motion(source: Source) -> tuple[float, ...]:
    """Axis along which k-space is filled, the share filled before the move, then the move's matrix."""
    angles = np.radians(source.random.uniform(-1, 1, 3 if len(source.frame.plane) == 3 else 1) * source.settings.motion_degrees)
    moved = affine(
        source.frame, angles, 1.0, source.random.uniform(-1, 1, len(source.frame.plane)) * source.settings.motion_voxels
    )
    start = (float(source.random.choice(source.frame.plane)), float(source.random.uniform(0.5, 0.95)))
    return (*start, *(value for row in moved for value in row))


def _spike(source: Source) -> tuple[float, ...]:
    """Height in standard deviations, phase, waves along each axis."""
    waves = [
        float(source.random.integers(-(edge // 4), edge // 4 + 1)) if axis in source.frame.plane else 0.0
        for axis, edge in enumerate(source.frame.patch)
    ]
    return (float(source.random.uniform(*source.settings.spike_strength)), float(source.random.uniform(0, 2 * math.pi)), *waves)


_NUMBERS = {
    "motion": _motion,
    "ghosting": _ghosting,
    "spike": _spike,
    "bias_field": _bias_field,
    "noise": _noise,
    "blur": _blur,
    "brightness": _factor,
    "contrast": _factor,
    "low_resolution": _low_resolution,
    "inverted_gamma": _gamma,
    "gamma": _gamma,
    "histogram": _histogram,
    "invert": _invert,
    "collimator": _collimator,
}
