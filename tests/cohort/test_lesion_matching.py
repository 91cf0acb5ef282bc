"""Lesions of two dates: kept, new, gone, split, merged."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxelry.cohort.lesion_matching import lesion_changes
from voxelry.cohort.registration import Registration
from voxelry.core.geometry import Geometry

GRID = Geometry.from_spacing((40, 36, 20), (1.5, 1.5, 3.0))


def balls(centres: dict[int, tuple[float, float, float, float]], grid: Geometry = GRID) -> np.ndarray:
    """Ids of balls: id -> x, y, z in mm and radius."""
    indices = np.stack(np.indices(grid.shape), -1)
    points = indices @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    array = np.zeros(grid.shape, np.uint32)
    for id, (*centre, radius) in centres.items():
        array[np.linalg.norm(points - centre, axis=-1) <= radius] = id
    return array


def told(changes: list) -> set[tuple]:
    return {(change.kind, change.first, change.second) for change in changes}


BEFORE = {1: (10, 10, 12, 5), 2: (40, 10, 30, 6), 5: (12, 40, 30, 4), 7: (40, 40, 40, 8)}


def test_every_kind_of_change() -> None:
    after = {
        3: (10, 10, 12, 8),  # grown
        4: (36, 10, 30, 3), 6: (45, 10, 30, 3),  # 2 is split
        8: (25, 25, 10, 4),  # new; 5 is gone
        9: (40, 40, 40, 5),  # shrunk
    }  # fmt: skip
    changes = lesion_changes(balls(BEFORE), GRID, balls(after), GRID)
    assert told(changes) == {
        ("kept", (1,), (3,)), ("split", (2,), (4, 6)), ("gone", (5,), ()), ("kept", (7,), (9,)), ("new", (), (8,)),
    }  # fmt: skip
    growth = {change.first: change.growth for change in changes}
    assert growth[(1,)] == pytest.approx((8 / 5) ** 3 - 1, rel=0.15)
    assert growth[(7,)] == pytest.approx((5 / 8) ** 3 - 1, rel=0.15)
    assert growth[()] is None
    backwards = lesion_changes(balls(after), GRID, balls(BEFORE), GRID)
    assert ("merged", (4, 6), (2,)) in told(backwards)


def test_lesions_are_followed_through_a_registration_into_another_grid() -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [12, -20, 30], degrees=True).as_matrix()
    matrix[:3, 3] = (15, -8, 22)
    grid = Geometry((80, 110, 80), np.array([[2, 0, 0, -70], [0, 1.2, 0, -60], [0, 0, 1.7, -40], [0, 0, 0, 1]], float))
    registration = Registration(matrix, "rigid", 1, 0)
    after = {id + 10: (*registration.apply(np.array([place[:3]], float))[0], place[3]) for id, place in BEFORE.items()}
    changes = lesion_changes(balls(BEFORE), GRID, balls(after, grid), grid, registration)
    assert told(changes) == {("kept", (id,), (id + 10,)) for id in BEFORE}
    assert all(change.second_volume_mm3 == pytest.approx(change.first_volume_mm3, rel=0.12) for change in changes)


@pytest.mark.parametrize(("miss", "kind"), [(1.0, "kept"), (30.0, "gone")])
def test_lesions_may_miss_each_other_by_the_tolerance(miss: float, kind: str) -> None:
    first, second = balls({1: (10, 20, 30, 1.6)}), balls({1: (10 + 1.5 + miss, 20, 30, 1.6)})
    assert kind in {change.kind for change in lesion_changes(first, GRID, second, GRID, tolerance=2.0)}


@given(first=st.permutations(list(BEFORE)), second=st.sets(st.sampled_from(list(BEFORE))), numbers=st.permutations(range(1, 9)))
def test_numbers_do_not_matter(first: list[int], second: set[int], numbers: list[int]) -> None:
    names = dict(zip(BEFORE, first, strict=True))
    others = dict(zip(sorted(second), numbers, strict=False))
    before = balls({names[id]: place for id, place in BEFORE.items()})
    after = balls({others[id]: BEFORE[id] for id in second})
    changes = lesion_changes(before, GRID, after, GRID)
    assert told(changes) == {
        ("kept", (names[id],), (others[id],)) if id in second else ("gone", (names[id],), ()) for id in BEFORE
    }
    assert [change.first for change in changes] == sorted(change.first for change in changes)


def test_no_lesions_at_either_date() -> None:
    none, some = balls({}), balls({3: (20, 20, 20, 5)})
    assert lesion_changes(none, GRID, none, GRID) == []
    assert told(lesion_changes(none, GRID, some, GRID)) == {("new", (), (3,))}
    assert told(lesion_changes(some, GRID, none, GRID)) == {("gone", (3,), ())}


def test_chains_of_lesions_that_touch_are_one_change() -> None:
    row = {n: (8.0 + 8 * n, 20, 30, 4) for n in range(1, 4)}
    shifted = {n: (4.0 + 8 * n, 20, 30, 4) for n in range(1, 5)}
    [change] = lesion_changes(balls(row), GRID, balls(shifted), GRID)
    assert change.kind == "rearranged"
    assert (change.first, change.second) == ((1, 2, 3), (1, 2, 3, 4))
    assert all(a < b for a, b in pairwise(change.first))
