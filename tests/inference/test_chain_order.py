import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.inference.chain_kernels import LONGEST_STRETCH, shorten
from voxelry.inference.chain_order import chain_order


def length(order, points):
    return np.linalg.norm(np.diff(points[list(order)], axis=0), axis=1).sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_a_noisy_chain_is_ordered_by_the_shortest_of_all_paths(seed, count):
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    angle = np.linspace(0, random.uniform(0, 3), count)
    points = 30 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) @ turn + random.normal(0, 1.0, (count, 3))
    points = points[random.permutation(count)]
    orders = np.array(list(itertools.permutations(range(count))))
    shortest = np.linalg.norm(np.diff(points[orders], axis=1), axis=2).sum(axis=1).min()
    order = chain_order(points)
    assert sorted(order) == list(range(count))
    assert length(order, points) <= shortest * (1 + 1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_dental_arch_is_followed_from_end_to_end(seed):
    random = np.random.default_rng(seed)
    angle = np.linspace(0.02, np.pi - 0.02, 16)
    points = np.stack([27 * np.cos(angle), 45 * np.sin(angle), 0 * angle], 1) + random.normal(0, 0.5, (16, 3))
    numbers = random.permutation(16)
    order = [int(numbers[number]) for number in chain_order(points[numbers])]
    assert order in (list(range(16)), list(range(16))[::-1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_numbers_and_the_scans_orientation_change_nothing(seed, count):
    random = np.random.default_rng(seed)
    points = np.cumsum(random.uniform(5, 10, (count, 1)) * [1, 0.3, 0.1] + random.normal(0, 1, (count, 3)), axis=0)
    numbers = random.permutation(count)
    other = [int(numbers[number]) for number in chain_order(points[numbers] * [-1, 1, -1])]
    assert other in (chain_order(points), chain_order(points)[::-1])


def test_no_point_one_point_and_one_place():
    assert chain_order(np.zeros((0, 3))) == []
    assert chain_order(np.zeros((1, 3))) == [0]
    assert sorted(chain_order(np.zeros((3, 3)))) == [0, 1, 2]


def by_whole_lengths(order, distance):
    """Every change in turn, the whole path measured anew for each."""

    def changes():
        n = len(order)
        for first in range(n):
            for last in range(first + 2, n + 1):
                yield order[:first] + order[first:last][::-1] + order[last:]
            for size in range(1, min(LONGEST_STRETCH, n - first) + 1):
                stretch, rest = order[first : first + size], order[:first] + order[first + size :]
                for place in range(len(rest) + 1):
                    yield from (rest[:place] + piece + rest[place:] for piece in (stretch, stretch[::-1]))

    def measured(path):
        return sum(distance[a, b] for a, b in itertools.pairwise(path))

    return next((path for path in changes() if measured(path) < measured(order) - 1e-9), None)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_each_turn_is_the_first_that_measuring_whole_paths_finds(seed, count):
    random = np.random.default_rng(seed)
    points = random.normal(size=(count, 3))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    path = random.permutation(count)
    while True:
        wanted = by_whole_lengths(path.tolist(), distance)
        assert shorten(path, distance, 1e-9) == (wanted is not None)
        if wanted is None:
            break
        assert path.tolist() == wanted
