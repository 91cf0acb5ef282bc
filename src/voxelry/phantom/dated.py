"""Dated phantoms: one synthetic patient examined at several dates, between which lesions of the liver change.

At each date the patient lies elsewhere and turned, the grid is shifted and the noise is new; lesions grow, shrink, stay, vanish,
come, split and merge. What happened is known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import UsageError
from voxelry.phantom.acquisition import Acquisition, blurred, speckle
from voxelry.phantom.canvas import Canvas
from voxelry.phantom.phantom import HU_RANGE, Phantom
from voxelry.phantom.shapes import rotation
from voxelry.phantom.torso import ACQUISITION, AIR, TABLE, Torso, paint

Fate = Literal["grow", "shrink", "stay", "vanish", "come", "split", "merge"]

_FATES: tuple[Fate, ...] = ("grow", "shrink", "vanish", "come", "stay", "split", "merge")
_TURN, _SHIFT = 8.0, 25.0
"""Largest rotation about each axis in degrees, and shift along each in mm."""

_GRID_SHIFT = 2.0
_CANDIDATES = 20_000
_MARGIN, _GAP = 6.0, 12.0
"""Least distances in mm from the surface of the liver, and of lesions from each other."""

_KIND, _SALT = 6, 417


@dataclass(frozen=True)
class LesionCourse:
    """One lesion over time.

    Attributes:
        fate: what happens to it from each date to the next.
        balls: for each date its balls: centre in RAS+ mm of the first date, and radius in mm; none where it is not there.
    """

    fate: Fate
    balls: tuple[tuple[tuple[tuple[float, float, float], float], ...], ...]


@dataclass(frozen=True, eq=False)
class DatedPhantom:
    """A patient at one date.

    Attributes:
        phantom: the scan and its reference; the lesions have instance ids 1..n, in any order.
        matrix: ``(4, 4)`` RAS+ mm of the first date -> RAS+ mm of this one.
        courses: instance id -> number of its course in the list of courses.
    """

    phantom: Phantom
    matrix: NDArray[np.float64]
    courses: dict[int, int]


def dated_phantoms(
    seed: int, dates: int = 2, acquisition: Acquisition | None = None, fates: Sequence[Fate] = _FATES
) -> tuple[list[DatedPhantom], list[LesionCourse]]:
    """Make examinations of one synthetic patient (`torso-ct`) at several dates.

    Args:
        seed: from 0; anatomy, lesions, motion and noise depend on it.
        dates: how many.
        acquisition: how the patient is scanned; the kind's own where None.
        fates: what happens to the lesions, one for each; ``grow``, ``shrink`` and ``stay`` go on from date to date, the others
            happen from the first to the second.

    Returns:
        The examinations, and the course of each lesion; lesions for which the liver has no room are left out.

    Raises:
        UsageError: a negative seed, or no date.

    Example:
        >>> from voxelry.phantom import coarse_acquisition, dated_phantoms
        >>> (before, after), courses = dated_phantoms(3, acquisition=coarse_acquisition("torso-ct"), fates=("vanish",))
        >>> courses[0].fate, len(before.courses), len(after.courses)
        ('vanish', 1, 0)
    """
    if seed < 0 or dates < 1:
        raise UsageError(f"phantom seed {seed} at {dates} dates", remedy="Use a seed from 0 and at least one date.")
    how = acquisition or ACQUISITION
    anatomy, growth, scanner = (np.random.default_rng(each) for each in np.random.SeedSequence([_KIND, _SALT, seed]).spawn(3))
    torso = Torso.draw(anatomy)
    courses = _courses(torso, growth, fates, dates)
    examinations = []
    for date in range(dates):
        matrix = np.eye(4) if date == 0 else _motion(growth)
        examinations.append(_examined(torso, courses, date, matrix, how, scanner, seed))
    return examinations, courses


def _motion(rng: np.random.Generator) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(tuple(rng.uniform(-_TURN, _TURN, 3)))
    matrix[:3, 3] = rng.uniform(-_SHIFT, _SHIFT, 3)
    return matrix


def _courses(torso: Torso, rng: np.random.Generator, fates: Sequence[Fate], dates: int) -> list[LesionCourse]:
    """Lesions with room for what happens to them, tried at random places."""
    tries = rng.uniform((-60, -70, -70), (140, 80, 70), size=(_CANDIDATES, 3))
    depth = -torso.liver(tries.T.astype(np.float32))
    taken: list[tuple[NDArray[np.float64], float]] = []
    courses = []
    for fate in sorted(fates, key=lambda fate: fate not in ("split", "merge")):  # the largest first
        grow, room = _GROWTH[fate](rng)
        clear = depth > room + _MARGIN
        for centre, other in taken:
            clear &= np.linalg.norm(tries - centre, axis=1) > room + other + _GAP
        if clear.any():
            place = tries[np.argmax(clear)]
            taken.append((place, room))
            courses.append(LesionCourse(fate, tuple(grow(place, date) for date in range(dates))))
    return courses


Balls = tuple[tuple[tuple[float, float, float], float], ...]
Growth = tuple[Callable[[NDArray[np.float64], int], Balls], float]
"""The balls of a lesion by its centre and the date, and the radius in mm that they need at most."""


def _ball(place: NDArray[np.float64], radius: float) -> Balls:
    x, y, z = place.tolist()
    return (((x, y, z), radius),)


def _scaled(low: float, high: float, factor: Callable[[int], float]) -> Callable[[np.random.Generator], Growth]:
    """A lesion of a radius between two, times a factor at each date; none where it is 0."""

    def draw(rng: np.random.Generator) -> Growth:
        radius = float(rng.uniform(low, high))
        return lambda place, date: _ball(place, radius * factor(date)) if factor(date) else (), radius * max(
            map(factor, (0, 1, 3))
        )

    return draw


def _divided(is_split: bool) -> Callable[[np.random.Generator], Growth]:
    """A lesion of one ball before or after it is two, along a random line."""

    def draw(rng: np.random.Generator) -> Growth:
        radius = float(rng.uniform(16, 19))
        line = rng.normal(size=3)
        line /= np.linalg.norm(line)

        def balls(place: NDArray[np.float64], date: int) -> Balls:
            if (date > 0) != is_split:
                return _ball(place, radius)
            return _ball(place + line * 0.75 * radius, 0.42 * radius) + _ball(place - line * 0.75 * radius, 0.42 * radius)

        return balls, 1.2 * radius

    return draw


_GROWTH: dict[Fate, Callable[[np.random.Generator], Growth]] = {
    "grow": _scaled(7, 10, lambda date: 1 + 0.3 * date),
    "shrink": _scaled(10, 14, lambda date: 0.7**date),
    "stay": _scaled(8, 12, lambda _: 1),
    "vanish": _scaled(7, 12, lambda date: date == 0),
    "come": _scaled(7, 12, lambda date: date > 0),
    "split": _divided(True),
    "merge": _divided(False),
}


@dataclass(frozen=True, eq=False)
class _GrownTorso(Torso):
    """A patient with given lesions."""

    balls: Balls = ()

    def lesions(self) -> tuple[tuple[tuple[float, ...], float, float], ...]:
        """Centre, radius and contrast of each lesion."""
        return tuple((centre, radius, -52.0) for centre, radius in self.balls)


def _examined(
    torso: Torso,
    courses: Sequence[LesionCourse],
    date: int,
    matrix: NDArray[np.float64],
    how: Acquisition,
    scanner: np.random.Generator,
    seed: int,
) -> DatedPhantom:
    balls = [(number, ball) for number, course in enumerate(courses) for ball in course.balls[date]]
    own = {field.name: getattr(torso, field.name) for field in fields(Torso)}
    grid = how.grid()
    assert grid.affine is not None
    affine = np.array(grid.affine)
    affine[:3, 3] += matrix[:3, 3] + (scanner.uniform(-_GRID_SHIFT, _GRID_SHIFT, 3) if date else 0)
    world = Geometry(grid.shape, affine)
    canvas = Canvas(Geometry(grid.shape, np.linalg.inv(matrix) @ affine), (AIR,))  # the patient as at the first date
    paint(_GrownTorso(**own, balls=tuple(ball for _, ball in balls)), canvas)
    image = blurred(canvas.image, how.blur, world)
    image = image + speckle(scanner, image.shape, how.noise)
    lesion = canvas.labels == TABLE["liver_lesion"].value
    ids, owners = _ids(canvas, lesion, [ball for _, ball in balls], scanner)
    source = Source(remarks=(f"synthetic: made by voxelry.phantom, seed {seed}, date {date + 1}",))
    pixels = np.clip(np.rint(image), *HU_RANGE).astype(np.int16)
    volume = Volume(pixels, world, 1, "CT", source)
    labels = LabelMap(canvas.labels[None], world, TABLE, source, ids[None])
    phantom = Phantom("torso-ct", seed, how, volume, labels)
    return DatedPhantom(phantom, matrix, {id: balls[number][0] for id, number in owners.items()})


def _ids(
    canvas: Canvas, lesion: NDArray[np.bool_], balls: Sequence[tuple[tuple[float, float, float], float]], rng: np.random.Generator
) -> tuple[NDArray[np.uint32], dict[int, int]]:
    """Instance ids of the lesions' voxels, in a random order, and the ball of each id that has a voxel."""
    ids = np.zeros(lesion.shape, np.uint32)
    order = rng.permutation(len(balls))
    if not len(balls):
        return ids, {}
    places = canvas.points[:, lesion].T
    nearest = np.argmin([np.linalg.norm(places - centre, axis=1) - radius for centre, radius in balls], axis=0)
    ids[lesion] = order[nearest] + 1
    return ids, {int(order[number]) + 1: int(number) for number in np.unique(nearest)}
