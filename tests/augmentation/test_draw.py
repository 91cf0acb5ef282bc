"""What is drawn: how often, in which range, by the rules of the recipe."""

import numpy as np
import pytest

from helpers.plans import SIDED, tiny_network, tiny_plan
from voxelry.augmentation.augment import Augmenter
from voxelry.augmentation.draw import ORDER, Frame, affine
from voxelry.recipes.settings import AUGMENT_SETS, AugmentSettings


def plan(patch, **changes):
    network = tiny_network(len(patch), strides=((1,) * len(patch),) * 3)
    return tiny_plan(len(patch), patch_size=patch, network=network, **changes)


@pytest.mark.parametrize(
    ("patch", "changes", "plane", "degrees"),
    [
        ((40, 56, 40), {}, (0, 1, 2), 30),
        ((40, 56, 40), {"spacing": (2.0, 1.0, 1.0)}, (0, 1, 2), 30),
        ((12, 56, 40), {"spacing": (5.0, 1.0, 1.0)}, (1, 2), 180),  # nnU-Net's rule: more than 3 times as long as across
        ((56, 40, 12), {"spacing": (1.0, 1.0, 5.0)}, (0, 1), 180),
        ((40, 56, 40), {"coarse_axis": 0}, (1, 2), 180),
        ((40, 56, 1), {"slice_axis": 2}, (0, 1), 180),
        ((64, 96, 1), {"slice_axis": 2}, (0, 1), 180),
        ((64, 97, 1), {"slice_axis": 2}, (0, 1), 15),
        ((64, 64), {}, (0, 1), 180),
        ((64, 100), {}, (0, 1), 15),
    ],
)
def test_planes_and_angles_by_the_recipe(patch, changes, plane, degrees):
    frame = Frame.of(plan(patch, **changes))
    assert (frame.plane, frame.degrees) == (plane, degrees)


def test_how_often_each_change_is_drawn():
    change = Augmenter(plan((16, 16, 16), channels=("a", "b")), AugmentSettings(set="recipe"), SIDED)
    draws = [change.draw(seed) for seed in range(3000)]
    share = {kind: np.mean([any(one.kind == kind for one in drawn.changes) for drawn in draws]) for kind in ORDER}
    wanted = {"noise": 0.1, "blur": 0.2 * 0.75, "brightness": 0.15, "contrast": 0.15, "low_resolution": 0.25 * 0.75}
    wanted |= {"inverted_gamma": 0.1, "gamma": 0.3}
    for kind in ORDER:
        assert abs(share[kind] - wanted.get(kind, 0)) < 0.03, kind
    assert abs(np.mean([drawn.moves for drawn in draws]) - (1 - 0.8**2)) < 0.03


def test_numbers_stay_in_their_ranges_and_reach_their_ends():
    chosen = AugmentSettings(set="recipe", **dict.fromkeys(("noise", "blur", "gamma", "contrast", "low_resolution"), 1))
    change = Augmenter(plan((16, 16, 16)), chosen, SIDED)
    drawn = [one for seed in range(800) for one in change.draw(seed).changes]
    for kind, low, high in (("gamma", 0.7, 1.5), ("contrast", 0.75, 1.25), ("blur", 0.5, 1.0), ("low_resolution", 8, 16)):
        numbers = np.array([one.numbers for one in drawn if one.kind == kind])
        assert low <= numbers.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < numbers.max() <= high
    gammas = np.array([one.numbers[0] for one in drawn if one.kind == "gamma"])
    assert abs((gammas < 1).mean() - 0.5) < 0.08  # as often below 1 as above, whatever the range's middle


def test_each_channel_of_each_window_has_noise_of_its_own():
    change = Augmenter(plan((16, 16), channels=("a", "b")), AugmentSettings(set="recipe", noise=1), SIDED)
    noise = [[one.numbers for one in change.draw(seed).changes if one.kind == "noise"] for seed in range(50)]
    assert all(one[0] == two[0] for one, two in noise)  # of one strength
    assert len({key for pair in noise for _, key in pair}) == 100


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 2.0, 0.5)])
def test_a_turn_keeps_distances_in_mm(spacing):
    frame = Frame((20, 20, 20), spacing, 1, (0, 1, 2), 30)
    matrix = np.array(affine(frame, np.array([0.3, -0.2, 0.5]), 1.0, np.zeros(3)))
    size = np.diag(spacing)
    turn = size @ matrix[:, :3] @ np.linalg.inv(size)
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.isclose(np.linalg.det(turn), 1)
    centre = np.full(3, 9.5)
    assert np.allclose(matrix[:, :3] @ centre + matrix[:, 3], centre)


def test_zoom_and_shift():
    frame = Frame((20, 30), (1.0, 1.0), 1, (0, 1), 30)
    matrix = np.array(affine(frame, np.zeros(1), 2.0, np.array([3.0, -1.0])))
    place = matrix[:, :2] @ np.array([12.5, 13.5]) + matrix[:, 2]  # 3 down and 1 left of the centre: where the centre went
    assert np.allclose(place, [9.5, 14.5])
    assert np.allclose(matrix[:, :2], np.eye(2) / 2)


def test_sets_fill_what_is_left_out():
    light = AugmentSettings(set="light", noise=0.9)
    assert light.noise == 0.9
    assert light.rotation == AUGMENT_SETS["light"]["rotation"]
    assert light.flip_axes == ()
    assert AugmentSettings.model_validate_json(light.model_dump_json()) == light


@pytest.mark.parametrize(
    ("modality", "dimensions", "device", "name"),
    [
        ("DX", 2, "cuda", "xray"),
        ("cr", 2, "cpu", "xray"),
        ("MR", 3, "cpu", "light"),
        ("CT", 3, "cuda:1", "recipe"),
        ("DX", 3, "cuda", "recipe"),
    ],
)
def test_auto_follows_data_and_device(modality, dimensions, device, name):
    given = AugmentSettings(gamma=0.77)
    chosen = given.chosen(modality, dimensions, device)
    assert chosen == AugmentSettings(set=name, gamma=0.77)
    assert chosen.chosen("US", 2, "cpu") is chosen
    assert AugmentSettings.model_validate_json(given.model_dump_json()).chosen(modality, dimensions, device) == chosen


def test_auto_keeps_what_was_given_also_where_it_is_the_default():
    given = AugmentSettings(low_resolution=0.25, rotation=None)
    again = AugmentSettings.model_validate_json(given.model_dump_json())
    for one in (given.chosen("MR", 3, "cpu"), again.chosen("MR", 3, "cpu")):
        assert (one.low_resolution, one.rotation, one.noise) == (0.25, None, AUGMENT_SETS["light"]["noise"])


def test_every_set_is_drawn_from():
    for name, patch in (("recipe", (8, 8, 8)), ("light", (8, 8, 8)), ("xray", (8, 8))):
        change = Augmenter(plan(patch), AugmentSettings(set=name), SIDED)
        assert len({change.draw(seed) for seed in range(50)}) > 30
