import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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
