"""Follow-up against known courses: errors of registration, and how many lesions are matched rightly, on dated phantoms.

    python benchmarks/followup.py --patients 20

Claims: translation within 0.5 mm, rotation within 0.5 degrees, F1 of links at least 0.95. Each patient
(`voxelry.phantom.dated_phantoms`) moves by up to 25 mm and 8 degrees about each axis between two dates; lesions grow, shrink,
stay, vanish, come, split and merge. A link joins a lesion of the first with one of the second date; F1 is over the links of all
patients. `--rough` moves the borders of masks at random, as those of predicted masks are.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from voxelry.cohort.follow_up_lesions import Examination, FollowUp, compare_dates
from voxelry.core.volume import LabelMap
from voxelry.phantom.dated import DatedPhantom, LesionCourse, dated_phantoms
from voxelry.phantom.torso import TABLE

LIVER, LESION = TABLE["liver"].value, TABLE["liver_lesion"].value
DAYS = date(2026, 1, 5), date(2026, 4, 7)
MOST_MM, MOST_DEGREES, LEAST_F1 = 0.5, 0.5, 0.95
_KINDS = {"vanish": "gone", "come": "new", "split": "split", "merge": "merged"}


@dataclass
class Tally:
    """Sums over patients; errors are the worst: mm at the organs' centre, mm anywhere in them, degrees."""

    right: int = 0
    false: int = 0
    missed: int = 0
    kinds: Counter[bool] = field(default_factory=Counter)
    errors: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def f1(self) -> float:
        """Of links."""
        return 2 * self.right / (2 * self.right + self.false + self.missed)


def registration_errors(first: DatedPhantom, second: DatedPhantom, course: FollowUp) -> tuple[float, float, float]:
    """Error in mm at the centre of the organs, the largest in mm within them, and of the rotation in degrees."""
    labels, [found] = first.phantom.labels, course.registrations
    points = labels.geometry.world(np.argwhere(labels.array).astype(np.float64))
    misses = found.apply(points) - (points @ second.matrix[:3, :3].T + second.matrix[:3, 3])
    left, _, right = np.linalg.svd(np.linalg.inv(second.matrix[:3, :3]) @ found.matrix[:3, :3])
    turn = float(np.degrees(Rotation.from_matrix(left @ right).magnitude()))
    return float(np.linalg.norm(misses.mean(axis=0))), float(np.linalg.norm(misses, axis=1).max()), turn


def mask_of(each: DatedPhantom, rough: float, rng: np.random.Generator) -> LabelMap:
    """Labels without instance ids, the borders of lesions moved at random by about `rough` voxels."""
    labels = each.phantom.labels
    array = labels.array.copy()
    if rough:
        noise = gaussian_filter(rng.standard_normal(array.shape), 1.5)
        inside = gaussian_filter((array == LESION).astype(np.float64), 1.0) > 0.5 + 0.25 * rough * noise / noise.std()
        array[(array == LESION) & ~inside] = LIVER
        array[inside & (array == LIVER)] = LESION
    return LabelMap(array[None], labels.geometry, TABLE, labels.source)


def owners(each: DatedPhantom, ids: NDArray[np.uint32]) -> dict[int, int]:
    """Number of a lesion -> the course that most of its voxels belong to; -1 for one that lies on none."""
    true = each.phantom.labels.instances
    assert true is not None
    result = {}
    for number in np.unique(ids[ids > 0]).tolist():
        inside = Counter(true[0][ids == number].tolist())
        del inside[0]
        result[number] = each.courses[inside.most_common(1)[0][0]] if inside else -1
    return result


def count_links(dated: list[DatedPhantom], courses: list[LesionCourse], course: FollowUp, tally: Tally) -> None:
    """Add a patient's links and kinds of change."""
    layers = [each.labels.instances[0] for each in course.examinations if each.labels.instances is not None]
    before, after = (owners(each, ids) for each, ids in zip(dated, layers, strict=True))
    true = {(a, b) for a, own in before.items() for b, other in after.items() if own == other >= 0}
    links = {(a, b) for each in course.changes for a in each.change.first for b in each.change.second}
    tally.right += len(links & true)
    tally.false += len(links - true)
    tally.missed += len(true - links)
    for each in course.changes:
        members = {before[a] for a in each.change.first} | {after[b] for b in each.change.second}
        fate = courses[min(members)].fate if len(members) == 1 and min(members) >= 0 else None
        tally.kinds[fate is not None and each.change.kind == _KINDS.get(fate, "kept")] += 1


def main() -> int:
    """Follow up the patients; 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first patient")
    parser.add_argument("--rough", type=float, default=0.0, help="voxels by which borders of masks are moved")
    parser.add_argument("--transform", choices=("rigid", "affine"), default="affine")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, SimpleITK {sitk.Version_VersionString()}, {date.today()}", flush=True)
    tally = Tally()
    for seed in range(options.first, options.first + options.patients):
        dated, courses = dated_phantoms(seed)
        rng = np.random.default_rng(seed)
        examinations = [
            Examination(str(day), day, each.phantom.volume, mask_of(each, options.rough, rng))
            for day, each in zip(DAYS, dated, strict=True)
        ]
        began = time.perf_counter()
        course = compare_dates(examinations, ["liver_lesion"], options.transform)
        seconds = time.perf_counter() - began
        errors = registration_errors(dated[0], dated[1], course)
        tally.errors = tuple(map(max, tally.errors, errors))  # type: ignore[assignment]
        count_links(dated, courses, course, tally)
        print(
            f"patient {seed}: {errors[0]:.3f} mm at the centre, at most {errors[1]:.3f} mm, {errors[2]:.3f} degrees; "
            f"links so far {tally.right} right, {tally.false} false, {tally.missed} missed; {seconds:.1f} s",
            flush=True,
        )
    centre, most, turn = tally.errors
    print(f"worst: {centre:.3f} mm at the centre, {most:.3f} mm anywhere in the organs, {turn:.3f} degrees")
    print(f"links: F1 {tally.f1:.4f}; kinds of change right: {tally.kinds[True]} of {tally.kinds.total()}")
    return 0 if most < MOST_MM and turn < MOST_DEGREES and tally.f1 >= LEAST_F1 else 1


if __name__ == "__main__":
    sys.exit(main())
