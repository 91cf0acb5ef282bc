import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxelry.core.label_sequence import LabelSequence, Spread
from voxelry.inference.sequence_costs import OrderedObject, SequenceCosts
from voxelry.inference.sequence_naming import CERTAIN, name_objects

LUMBAR = ("L1", "L2", "L3", "L4", "L5")
UPPER = tuple(f"tooth_{number}" for number in (*range(18, 10, -1), *range(21, 29)))


def learnt(labels=LUMBAR, distance=36.0, volume=40_000.0, **changes):
    """A row as twenty cases showed it that have every label."""
    return LabelSequence(
        name="row",
        labels=labels,
        cases=20,
        present=changes.pop("present", (20,) * len(labels)),
        distances=(Spread(mean=distance, std=2.0),) * (len(labels) - 1),
        volumes=(Spread(mean=volume, std=6_000.0),) * len(labels),
        **changes,
    )


def objects(scores, heights=None, volumes=None):
    heights = [-36.0 * number for number in range(len(scores))] if heights is None else heights
    volumes = [40_000.0] * len(scores) if volumes is None else volumes
    rows = zip(scores, heights, volumes, strict=True)
    return [OrderedObject(np.array(score, float), np.array([3.0, 0.1 * z, z]), volume) for score, z, volume in rows]


def certain(*names, labels=LUMBAR):
    """Scores of objects that the network is sure of."""
    return [[float(label == name) for label in labels] for name in names]


def all_sequences(costs):
    """Every consistent sequence with its cost, by trying them all."""
    labels = costs.sequence.labels
    for count in range(len(costs.objects) + 1):
        for chain in itertools.combinations(costs.elements, count):
            if any(a.last >= b.first for a, b in itertools.pairwise(chain)):
                continue
            for places in itertools.combinations(range(len(labels)), count):
                names = [None] * len(costs.objects)
                cost = costs.direction + sum(costs.absent[[place for place in range(len(labels)) if place not in places]])
                for element, place in zip(chain, places, strict=True):
                    names[element.first : element.last + 1] = [labels[place]] * (element.last + 1 - element.first)
                    cost += element.costs[place]
                for (a, i), (b, j) in itertools.pairwise(zip(chain, places, strict=True)):
                    apart = float(np.linalg.norm(b.centroid - a.centroid))
                    cost += costs.transitions(apart)[i, j] - costs.absent[i + 1 : j].sum()
                cost += sum(costs.rejected[number] for number, name in enumerate(names) if name is None)
                yield tuple(names), cost


@st.composite
def cases(draw):
    count, labels = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = tuple("abcdef"[:labels])
    optional = tuple(name for name in names if draw(st.booleans()))
    centroids = np.cumsum(random.uniform(0.2, 2.5, (count, 1)), axis=0) * 30 * random.normal(size=3)
    volumes = random.uniform(0.02, 2, count) * 40_000
    scores = random.dirichlet(np.full(labels, 0.4), count)
    items = [OrderedObject(*row, bool(random.integers(2))) for row in zip(scores, centroids, volumes, strict=True)]
    row = LabelSequence(name="row", labels=names, optional=optional)
    if draw(st.booleans()):
        present = tuple(int(n) for n in random.integers(0, 21, labels))
        row = learnt(names, 30.0, optional=optional, present=present, direction=(0.0, 0.6, 0.8))
    return items, row


@settings(max_examples=60)
@given(cases())
def test_the_best_sequences_are_those_of_a_search_through_all(case):
    items, row = case
    naming = name_objects(items, row, 5)
    along = [items[number] for number in naming.order]
    best = {}
    for number, way in enumerate((along, along[::-1])):
        for names, cost in all_sequences(SequenceCosts(way, row)):
            back = names if number == 0 else names[::-1]
            best[back] = min(cost, best.get(back, math.inf))
    expected = sorted(best.values())[:5]
    assert [choice.cost for choice in naming.choices] == pytest.approx(expected)
    for choice in naming.choices:
        assert best[tuple(choice.names[number] for number in naming.order)] == pytest.approx(choice.cost)


@settings(max_examples=40)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_in_which_objects_come_changes_nothing(case, random):
    items, row = case
    shuffled = random.sample(range(len(items)), len(items))
    before, after = name_objects(items, row), name_objects([items[number] for number in shuffled], row)
    assert after.choices[0].cost == pytest.approx(before.choices[0].cost)
    if before.margin(range(len(items))) > 1e-6:
        assert after.names == tuple(before.names[number] for number in shuffled)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_any_turn_or_mirror_of_the_scan_gives_the_same_names(seed, is_mirrored):
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn[0] *= -1 if is_mirrored else 1
    plain = objects(random.dirichlet(np.ones(5), 4), [0.0, -35.0, -72.0, -107.0])
    turned = [OrderedObject(each.scores, turn @ each.centroid + [5, 6, 7], each.volume) for each in plain]
    first, second = name_objects(plain, learnt()), name_objects(turned, learnt())
    assert second.choices[0].cost == pytest.approx(first.choices[0].cost)
    assert second.names == first.names


def test_lower_levels_shifted_by_one_are_put_right():
    naming = name_objects(objects(certain("L1", "L2", "L2", "L3", "L4")), learnt())
    assert naming.names == LUMBAR
    assert naming.margin(range(5)) > CERTAIN


def test_one_confident_anchor_repairs_a_shift_of_all_others():
    labels = ("T11", "T12", *LUMBAR)
    scores = [[0.0] * 7 for _ in range(5)]
    for number in range(4):
        scores[number][number + 1], scores[number][number + 2] = 0.55, 0.45
    scores[4][6] = 1.0
    naming = name_objects(objects(scores), learnt(labels, present=(9, 12, *[20] * 5)))
    assert naming.names == LUMBAR


@pytest.mark.parametrize("gone", ["L2", "L3", "L4"])
def test_a_missing_object_with_its_gap_shifts_nothing(gone):
    kept = [name for name in LUMBAR if name != gone]
    heights = [-36.0 * LUMBAR.index(name) for name in kept]
    assert name_objects(objects(certain(*kept), heights), learnt()).names == tuple(kept)
    right, wrong = certain(*kept), certain(*LUMBAR[: len(kept)])
    below = [right[i] if LUMBAR.index(name) < LUMBAR.index(gone) else wrong[i] for i, name in enumerate(kept)]
    assert name_objects(objects(below, heights), learnt()).names == tuple(kept)


def test_an_extra_object_is_named_where_the_row_allows_it():
    six = (*LUMBAR, "L6")
    heights = [-36.0 * number for number in range(6)]
    seen = objects([*certain(*LUMBAR, labels=six), [0, 0, 0, 0, 1, 0]], heights)
    assert name_objects(seen, learnt(six, optional=("L6",), present=(*[20] * 5, 1))).names == six
    never = objects([*certain(*LUMBAR), *certain("L5")], heights)
    assert name_objects(never, learnt()).names == (*LUMBAR, None)


def test_absent_optional_labels_need_no_gap():
    row = learnt(("T12", "T13", *LUMBAR), optional=("T13",), present=(20, 1, *[20] * 5))
    names = ("T12", *LUMBAR)
    naming = name_objects(objects(certain(*names, labels=row.labels)), row)
    assert naming.names == names
    assert naming.choices[0].cost < 2
    four = learnt(optional=("L5",), present=(20, 20, 20, 20, 18))
    assert name_objects(objects(certain("L1", "L2", "L3", "L4")), four).names == LUMBAR[:4]


def test_pieces_of_one_object_share_its_name():
    heights, volumes = [0.0, -36.0, -65.0, -79.0, -108.0, -144.0], [40e3, 40e3, 20e3, 20e3, 40e3, 40e3]
    naming = name_objects(objects(certain("L1", "L2", "L3", "L3", "L4", "L5"), heights, volumes), learnt())
    assert naming.names == ("L1", "L2", "L3", "L3", "L4", "L5")
    blind = name_objects(objects([[0.2] * 5] * 6, heights, volumes), learnt(direction=(0.0, -0.1, -1.0)))
    assert blind.names == ("L1", "L2", "L3", "L3", "L4", "L5")


def test_junk_gets_no_name():
    heights, volumes = [0.0, -36.0, -54.0, -72.0, -108.0, -144.0], [40e3, 40e3, 3e3, 40e3, 40e3, 40e3]
    seen = objects(certain("L1", "L2", "L5", "L3", "L4", "L5"), heights, volumes)
    seen[2] = replace(seen[2], centroid=seen[2].centroid + np.array([40.0, 0, 0]))
    assert name_objects(seen, learnt()).names == ("L1", "L2", None, "L3", "L4", "L5")


def test_an_ambiguous_row_is_uncertain_and_keeps_the_other_names():
    between = [[0.5, 0.5, 0, 0, 0], [0, 0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5, 0]]
    naming = name_objects(objects(between), learnt(direction=(0.0, -0.1, -1.0)))
    assert naming.margin(range(3)) < CERTAIN
    assert {naming.names, tuple(next(iter(naming.alternatives(number))) for number in range(3))} == {LUMBAR[:3], LUMBAR[1:4]}


def test_without_scores_the_direction_of_training_decides_which_end_is_first():
    blind = objects([[0.2] * 5] * 5)
    for sign in (1, -1):
        naming = name_objects(blind, learnt(direction=(0.0, 0.0, -1.0 * sign)))
        assert naming.names == LUMBAR[::sign]
        assert not naming.choices[0].is_reversed
    against = name_objects(objects(certain(*LUMBAR)), learnt(direction=(0.0, 0.0, 1.0)))
    assert against.names == LUMBAR
    assert against.choices[0].is_reversed


def arch(count=16, radius=28.0):
    """Centroids of teeth along half an ellipse."""
    angle = np.linspace(0.06, math.pi - 0.06, count)
    return np.stack([radius * np.cos(angle), 1.5 * radius * np.sin(angle), 0 * angle], axis=1)


@pytest.mark.parametrize("lost", [(), (3,), (0, 7, 8), (2, 3, 12, 15)])
def test_teeth_along_an_arch_keep_their_numbers_where_others_are_missing(lost):
    steps = np.linalg.norm(np.diff(arch(), axis=0), axis=1)
    spacing = tuple(Spread(mean=step, std=0.8) for step in steps)
    row = LabelSequence(name="upper teeth", labels=UPPER, optional=UPPER, cases=20, distances=spacing)
    kept = [number for number in range(16) if number not in lost]
    random = np.random.default_rng(0)
    centroids = arch() + random.normal(0, 0.4, (16, 3))
    scores = 0.6 * np.eye(16) + 0.25 * np.eye(16, k=1) + 0.15 / 16
    teeth = [OrderedObject(scores[number], centroids[number], 500.0) for number in kept]
    assert name_objects(teeth, row).names == tuple(UPPER[number] for number in kept)


def test_no_objects_have_no_names():
    naming = name_objects([], learnt())
    assert naming.names == ()
    assert naming.margin([]) == math.inf
