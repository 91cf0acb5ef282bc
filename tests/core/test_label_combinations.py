import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.plans import SIDED
from voxelry.core.geometry import Geometry
from voxelry.core.label_combinations import MOST_COMBINATIONS, LabelCombinations
from voxelry.core.labels import IGNORE_INDEX, Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError

GRID = Geometry((6, 5, 4), np.eye(4))
HEART = LabelTable(
    labels=(
        Label(value=1, name="heart", layer=1),
        Label(value=1, name="lung_left", mirror="lung_right"),
        Label(value=7, name="lung_right", mirror="lung_left"),
        Label(value=3, name="vessel", layer=2),
    ),
    ignore=9,
)


@st.composite
def tables(draw):
    layers = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    values = draw(st.permutations(range(1, 8)))
    return LabelTable(
        labels=tuple(Label(value=v, name=f"n{v}", layer=k) for v, k in zip(values, layers, strict=False)), ignore=99
    )


@st.composite
def maps(draw):
    table = draw(tables())
    random = np.random.default_rng(draw(st.integers(0, 99)))
    layers = np.zeros((table.layers, *GRID.shape), np.uint8)
    for number, layer in enumerate(layers):
        values = [0, 0, *(label.value for label in table.labels if label.layer == number), *([99] if draw(st.booleans()) else [])]
        layer[:] = random.choice(values, GRID.shape)
    return LabelMap(layers, GRID, table)


@given(labels=maps())
@settings(max_examples=100)
def test_every_label_is_told_from_the_number_of_its_combination(labels):
    combinations = LabelCombinations(labels.table)
    numbers = combinations.joined(combinations.planes(labels))
    ignored = (labels.layers == 99).any(0)
    assert numbers.dtype == np.int16
    assert np.array_equal(numbers == IGNORE_INDEX, ignored)
    for index, label in enumerate(labels.table.labels, start=1):
        inside = np.isin(numbers, combinations.containing[index])
        assert np.array_equal(inside, labels.mask(label.name) & ~ignored)


@given(table=tables())
def test_the_numbers_are_those_of_all_combinations_each_once(table):
    combinations = LabelCombinations(table)
    by_hand = {tuple(each) for each in itertools.product(*([0, *layer] for layer in combinations.layers))}
    assert {tuple(row) for row in combinations.labels.tolist()} == by_hand
    assert combinations.count == len(by_hand) == len(combinations.labels)
    assert not combinations.labels[0].any()


def test_with_one_layer_a_combination_is_a_class_index():
    combinations = LabelCombinations(SIDED)
    array = np.random.default_rng(0).choice([0, *(label.value for label in SIDED.labels)], GRID.shape).astype(np.uint8)
    numbers = combinations.joined(combinations.planes(LabelMap.of(array, GRID, SIDED)))
    assert np.array_equal(numbers, SIDED.to_classes(array, "test"))
    assert combinations.count == len(SIDED) + 1
    assert combinations.mirrored == SIDED.mirror_classes()


def test_twins_are_swapped_whatever_overlaps_them():
    combinations = LabelCombinations(HEART)
    for number, mirrored in enumerate(combinations.mirrored):
        twins = {0: 0, 1: 1, 2: 3, 3: 2, 4: 4}
        assert [twins[index] for index in combinations.labels[number].tolist()] == combinations.labels[mirrored].tolist()


def test_twins_may_lie_on_two_layers():
    apart = LabelTable(
        labels=(
            Label(value=1, name="lung_left", mirror="lung_right"),
            Label(value=1, name="lung_right", mirror="lung_left", layer=1),
        )
    )
    assert LabelCombinations(apart).mirrored == (0, 2, 1, 3)


def test_twins_that_would_lie_on_one_layer_are_refused():
    rows = [("a", "c", 0), ("b", "d", 1), ("c", "a", 2), ("d", "b", 2)]
    clash = LabelTable(
        labels=tuple(Label(value=n, name=name, mirror=twin, layer=layer) for n, (name, twin, layer) in enumerate(rows, 1))
    )
    with pytest.raises(LabelError, match="'a' and 'b' may overlap, but their mirror twins lie on one layer"):
        _ = LabelCombinations(clash).mirrored


def test_too_many_layers_are_refused_with_their_number():
    many = LabelTable(labels=tuple(Label(value=1, name=f"n{layer}", layer=layer) for layer in range(15)))
    with pytest.raises(LabelError, match=rf"15 layers, where they can meet in 32768 ways; at most {MOST_COMBINATIONS}"):
        LabelCombinations(many)


def test_a_map_of_other_layers_is_refused():
    with pytest.raises(LabelError, match="labels on 1 layers, the table has 3"):
        LabelCombinations(HEART).planes(LabelMap.of(np.zeros(GRID.shape, np.uint8), GRID, HEART))


def test_a_value_of_another_layer_is_refused():
    layers = np.zeros((3, *GRID.shape), np.uint8)
    layers[1] = 7
    with pytest.raises(LabelError, match="7"):
        LabelCombinations(HEART).planes(LabelMap(layers, GRID, HEART))
