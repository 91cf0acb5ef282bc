import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.plans import SIDED, tiny_plan
from voxelry.core.labels import Label, LabelTable
from voxelry.errors import ConfigError
from voxelry.metrics.overlap import PairCounts
from voxelry.metrics.regions import count_regions
from voxelry.networks.classes import (
    check_regions,
    class_members,
    class_spans,
    label_classes,
    layer_sizes,
    layer_winners,
    make_regions,
    mirror_classes,
    winners,
)

TUMOUR = LabelTable(labels=(Label(value=4, name="enhancing"), Label(value=1, name="core"), Label(value=2, name="edema")))
NESTED = {"whole": ["edema", "core", "enhancing"], "inner": ["core", "enhancing"], "active": ["enhancing"]}


def test_each_region_is_known_by_the_label_that_no_later_one_holds():
    regions = make_regions(NESTED, TUMOUR)
    assert [(region.name, region.label) for region in regions] == [("whole", "edema"), ("inner", "core"), ("active", "enhancing")]
    plan = tiny_plan(regions=regions)
    assert label_classes(plan, TUMOUR).tolist() == [0, 3, 2, 1]
    assert class_members(plan, TUMOUR) == {"whole": (3, 2, 1), "inner": (2, 1), "active": (1,)}
    assert make_regions({}, TUMOUR) == ()
    assert label_classes(tiny_plan(), TUMOUR).tolist() == [0, 1, 2, 3]
    assert class_members(tiny_plan(), TUMOUR) == {"enhancing": (1,), "core": (2,), "edema": (3,)}


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ({"whole": ["edema", "cor", "enhancing"]}, r"loss.regions.whole names 'cor', which is no label. Did you mean 'core'"),
        ({"whole": ["edema", "core"], "inner": ["core"]}, r"label 'enhancing' lies in none of loss.regions \(whole, inner\)"),
        (
            {"whole": ["edema", "core", "enhancing"]},
            r"loss.regions.whole, number 1, is the last region of enhancing and core and",
        ),
        (dict(reversed(NESTED.items())), "loss.regions.active, number 1, is the last region of none of its labels"),
        (NESTED | {"more": []}, r"loss.regions.more is \[\]"),
        (NESTED | {"more": ["core", "core"]}, "each once"),
    ],
)
def test_regions_that_do_not_tell_labels_apart_are_refused(regions, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_regions(regions, TUMOUR)
    assert "\n" not in str(caught.value)


@given(data=st.data())
@settings(max_examples=200)
def test_accepted_regions_give_every_label_back(data):
    """Whatever regions are accepted: masks of a label, decided as a network's classes are, give that label."""
    parts = st.lists(st.sampled_from(TUMOUR.names), min_size=1, max_size=3, unique=True)
    regions = {f"region {n}": data.draw(parts) for n in range(data.draw(st.integers(1, 4)))}
    try:
        made = make_regions(regions, TUMOUR)
    except ConfigError:
        order = [[one for one in TUMOUR.names if one in part] for part in regions.values()]
        last = [max((n for n, part in enumerate(order) if one in part), default=None) for one in TUMOUR.names]
        assert sorted(map(str, last)) != [str(n) for n in range(len(regions))]
        return
    plan = tiny_plan(regions=made)
    for number, _ in enumerate(TUMOUR.names, start=1):
        inside = [number in members for members in class_members(plan, TUMOUR).values()]
        logits = torch.tensor([0.0, *(1.0 if one else -1.0 for one in inside)])[None]
        assert label_classes(plan, TUMOUR)[winners(logits, True)].item() == number


def test_the_last_region_above_0_wins_and_the_background_is_not_asked():
    rows = list(itertools.product([9.0], [-1.0, 0.0, 1.0], [-1.0, 0.0, 2.0], [-1.0, 3.0]))
    found = winners(torch.tensor(rows), True)
    assert found.tolist() == [max((k for k in (1, 2, 3) if row[k] > 0), default=0) for row in rows]
    assert winners(torch.tensor(rows), False).tolist() == [0] * len(rows)


def test_regions_are_mirrored_by_their_labels():
    regions = {"kidneys": ["left kidney", "right kidney"], "left": ["left kidney"], "spine": ["spine"]}
    plan = tiny_plan(regions=make_regions(regions, SIDED))
    with pytest.raises(
        ConfigError, match=r"region 'left' mirrored left to right is \['right kidney'\].*Leave axis 0 out of flips"
    ):
        mirror_classes(plan, SIDED)
    both = {"left": ["left kidney"], "right": ["right kidney"], "spine": ["spine"]}
    assert mirror_classes(tiny_plan(regions=make_regions(both, SIDED)), SIDED) == (0, 2, 1, 3)
    assert mirror_classes(tiny_plan(), SIDED) == SIDED.mirror_classes()


def test_members_score_regions_from_the_counts_of_labels():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 4, (2, 500))
    matrix = np.zeros((4, 4), np.int64)
    np.add.at(matrix, (truth, guess), 1)
    members = class_members(tiny_plan(regions=make_regions(NESTED, TUMOUR)), TUMOUR)
    scores = count_regions(PairCounts(np.arange(4), np.arange(4), matrix), members).score("dice")
    for score, inside in zip(scores, members.values(), strict=True):
        one, other = np.isin(truth, inside), np.isin(guess, inside)
        assert score == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_a_plan_of_other_labels_is_refused():
    plan = tiny_plan(regions=make_regions(NESTED, TUMOUR))
    for function in (class_members, label_classes):
        with pytest.raises(ConfigError, match="a region of the plan names 'edema', which is no label"):
            function(plan, SIDED)


LAYERED = LabelTable(
    labels=(
        Label(value=1, name="heart", layer=1),
        Label(value=1, name="lung_left", mirror="lung_right"),
        Label(value=2, name="lung_right", mirror="lung_left"),
    )
)


def test_labels_on_layers_are_regions_of_their_own_layer_by_layer():
    plan = tiny_plan(regions=make_regions({}, LAYERED))
    assert [region.name for region in plan.regions] == ["lung_left", "lung_right", "heart"]
    assert label_classes(plan, LAYERED).tolist() == [0, 2, 3, 1]
    assert layer_sizes(LAYERED) == (2, 1)
    assert layer_sizes(TUMOUR) == ()
    assert mirror_classes(plan, LAYERED) == (0, 2, 1, 3)
    assert class_members(plan, LAYERED) == {"lung_left": (1, 4), "lung_right": (2, 5), "heart": (3, 4, 5)}
    assert [list(range(4))[span] for span in class_spans(4, (2, 1))] == [[0, 1, 2], [2, 3]]
    check_regions(plan, LAYERED)


@pytest.mark.parametrize("regions", [(), make_regions(NESTED, TUMOUR)])
def test_a_plan_of_exclusive_labels_is_refused_where_labels_lie_on_layers(regions):
    with pytest.raises(ConfigError, match="do not follow from its labels on 2 layers"):
        check_regions(tiny_plan(regions=regions), LAYERED)


def test_regions_of_labels_on_layers_are_refused():
    with pytest.raises(ConfigError, match=r"loss\.regions names chest, but the labels lie on 2 layers"):
        make_regions({"chest": LAYERED.names}, LAYERED)


@given(seed=st.integers(0, 99), layers=st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_on_each_layer_the_largest_logit_above_zero_wins(seed, layers):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 1 + sum(layers), 3, 4)))
    found = layer_winners(logits, layers)
    assert len(found) == len(layers)
    for batch, row, column in itertools.product(range(2), range(3), range(4)):
        first = 1
        for plane, size in zip(found, layers, strict=True):
            values = logits[batch, first : first + size, row, column].tolist()
            best = max(values, default=-1)
            assert int(plane[batch, row, column]) == (first + values.index(best) if best > 0 else 0)
            first += size
