import resource
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.plans import SIDED, tiny_plan
from helpers.training_cases import case
from voxelry.augmentation.augment_settings import AugmentSettings
from voxelry.augmentation.augmenter import Augmenter
from voxelry.core.labels import IGNORE_INDEX
from voxelry.inference.patches import PatchGrid
from voxelry.preparation.cache import CachedCase
from voxelry.preparation.class_locations import class_counts, class_locations
from voxelry.preparation.mapped_array import MappedArray
from voxelry.preparation.slice_stream import InMemorySlices
from voxelry.training.sampler import Sampler, cut_into


def of_classes(classes, name="case", count=5):
    """A case of an image that says its classes."""
    return CachedCase(
        name, classes[None].astype(np.float16), classes, class_locations(classes, count), class_counts(classes, count)
    )


@settings(max_examples=200)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 2),
    patch=st.tuples(*[st.integers(1, 7)] * 2),
    start=st.tuples(*[st.integers(-9, 8)] * 2),
    kind=st.sampled_from([np.float16, np.int8, np.int16]),
    lead=st.sampled_from([(), (2,)]),
)
def test_a_patch_as_padding_and_slicing_give_it(shape, patch, start, kind, lead):
    array = np.random.default_rng(0).integers(1, 99, (*lead, *shape)).astype(kind)
    padded = np.pad(array, [(0, 0)] * len(lead) + [(20, 20)] * 2, constant_values=-5)
    y, x = start[0] + 20, start[1] + 20
    out = torch.full((*lead, *patch), 77.0)
    cut_into(out, array, np.array(start), -5)
    assert np.array_equal(out.numpy(), padded[..., y : y + patch[0], x : x + patch[1]])


def test_a_patch_of_a_file_equals_that_of_an_array(tmp_path):
    array = np.random.default_rng(0).normal(size=(2, 9, 8, 7)).astype(np.float16)
    np.save(tmp_path / "a.npy", array)
    for start in ((-2, 3, 4), (0, 0, 0), (7, 6, 5)):
        one, two = torch.empty(2, 4, 4, 4), torch.empty(2, 4, 4, 4)
        cut_into(one, array, np.array(start), 0)
        cut_into(two, MappedArray.of(tmp_path / "a.npy"), np.array(start), 0)
        assert torch.equal(one, two)


def counted(sampler, monkeypatch):
    """The cases of a sampler's patches, recorded as they are drawn."""
    drawn = []
    original = Sampler._start

    def spy(self, case, random, forced):
        start = original(self, case, random, forced)
        drawn.append((case.id, start, forced))
        return start

    monkeypatch.setattr(Sampler, "_start", spy)
    return drawn


def test_each_case_comes_once_a_round(monkeypatch):
    cases = [case(seed, (9, 9, 9)) for seed in range(5)]
    sampler = Sampler(cases, (8, 8, 8), 2, 0.5, seed=4)
    drawn = counted(sampler, monkeypatch)
    for step in range(15):
        sampler(step)
    ids = [name for name, _, _ in drawn]
    rounds = [tuple(ids[begin : begin + 5]) for begin in range(0, 30, 5)]
    assert all(len(set(one)) == 5 for one in rounds)
    assert len(set(rounds)) > 1


@pytest.mark.parametrize(
    ("batch", "share", "forced"), [(2, 0.34, 1), (4, 0.5, 2), (3, 0.0, 0), (3, 1.0, 3), (8, 0.34, 3), (12, 0.33, 4)]
)
def test_the_last_part_of_a_batch_is_forced(monkeypatch, batch, share, forced):
    sampler = Sampler([case(0, (9, 9, 9))], (4, 4, 4), batch, share, seed=0)
    drawn = counted(sampler, monkeypatch)
    sampler(0)
    assert [one for _, _, one in drawn] == [False] * (batch - forced) + [True] * forced


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.34, 0.27, 0.41), (1.0, 1, 1)])
def test_a_batch_of_one_is_forced_as_often(monkeypatch, share, low, high):
    sampler = Sampler([case(0, (9, 9, 9))], (4, 4, 4), 1, share, seed=0)
    drawn = counted(sampler, monkeypatch)
    for step in range(600):
        sampler(step)
    first = [one for _, _, one in drawn]
    assert low <= np.mean(first) <= high
    drawn.clear()
    sampler(41)
    assert drawn[0][2] == first[41]


def test_forced_patches_hold_each_class_in_turn_however_small():
    classes = np.zeros((40, 40), dtype=np.int16)
    classes[10:30, 10:30] = 4
    classes[0, 0], classes[39, 20], classes[20, 39] = 1, 2, 3
    sampler = Sampler([of_classes(classes)], (8, 8), 4, 1.0, seed=1)
    seen: Counter[int] = Counter()
    for step in range(40):
        for patch in sampler(step)[1]:
            found = set(patch.unique().tolist()) - {0}
            assert found
            seen.update(found)
    assert set(seen) == {1, 2, 3, 4}
    assert min(seen.values()) > 20


def test_within_a_class_every_voxel_is_as_likely():
    classes = np.zeros((64, 1), dtype=np.int16)
    classes[[5, 20, 21, 50]] = 1
    sampler = Sampler([of_classes(classes)], (1, 1), 8, 1.0, seed=0)
    starts = Counter(int(sampler._start(sampler.cases[0], np.random.default_rng(seed), True)[0]) for seed in range(1200))
    assert set(starts) == {5, 20, 21, 50}
    assert 250 < min(starts.values()) <= max(starts.values()) < 350


@pytest.mark.parametrize("edge", [4, 7, 8])
def test_a_forced_voxel_lies_in_the_middle_half_of_its_patch(edge):
    classes = np.zeros((40, 40), dtype=np.int16)
    classes[20, 20] = 1
    lone = of_classes(classes)
    sampler = Sampler([lone], (edge, edge), 1, 1.0, seed=0)
    places = [tuple(20 - sampler._start(lone, np.random.default_rng(seed), True)) for seed in range(300)]
    middle = set(range(edge // 4, edge - edge // 4))
    assert all({int(place[axis]) for place in places} == middle for axis in (0, 1))


def test_regions_are_drawn_in_place_of_labels_and_their_voxels_evenly(monkeypatch):
    """Two regions, (1, 2, 3) and (3,): each half of the time; in the first a voxel of label 1 comes 9 times as often as of 3."""
    from voxelry.preparation import class_locations as places

    monkeypatch.setattr(places, "LOCATIONS_PER_CLASS", 50)
    classes = np.zeros((30, 40), dtype=np.int16)
    classes[:18], classes[18:28], classes[28:, :20] = 1, 2, 3
    lone = of_classes(classes)
    assert len(lone.class_locations[1]) == 50 < lone.count(1) == 720
    sampler = Sampler([lone], (1, 1), 1, 1.0, seed=0, regions=((1, 2, 3), (3,)))
    drawn = Counter()
    for seed in range(3000):
        drawn[int(classes[tuple(sampler._start(lone, np.random.default_rng(seed), True))])] += 1
    total = 720 + 400 + 40
    for label, share in ((1, 0.5 * 720 / total), (2, 0.5 * 400 / total), (3, 0.5 + 0.5 * 40 / total)):
        assert abs(drawn[label] / 3000 - share) < 0.035


def test_a_region_that_a_case_lacks_is_not_drawn():
    classes = np.zeros((9, 9), dtype=np.int16)
    classes[4, 4] = 2
    sampler = Sampler([of_classes(classes)], (3, 3), 2, 1.0, seed=0, regions=((1, 3), (2, 1)))
    assert (sampler(0)[1] == 2).flatten(1).any(1).all()


def test_unforced_patches_reach_every_corner_and_stay_inside():
    sampler = Sampler([case(0, (9, 7))], (4, 4), 8, 0.0, seed=0)
    starts = set()
    for step in range(60):
        for slot in range(8):
            rng = np.random.default_rng([step, slot])
            starts.add(tuple(sampler._start(sampler.cases[0], rng, False).tolist()))
    assert starts == {(y, x) for y in range(6) for x in range(4)}


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3), patch=st.tuples(*[st.integers(1, 8)] * 3), forced=st.booleans(),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_patches_lie_inside_or_around_the_case_and_hold_what_is_forced(shape, patch, forced, seed):
    rng = np.random.default_rng(seed)
    classes = np.zeros(shape, np.int16)
    classes[tuple(rng.integers(0, n) for n in shape)] = 1
    lone = of_classes(classes)
    start = Sampler([lone], patch, 1, 1.0, seed)._start(lone, rng, forced)
    for first, size, n in zip(start.tolist(), patch, shape, strict=True):
        if n >= size:
            assert 0 <= first <= n - size
        else:
            assert first == -((size - n) // 2)
    target = torch.empty(patch)
    cut_into(target, classes, start, IGNORE_INDEX)
    assert not forced or (target == 1).sum() == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_single_slices_are_drawn_from_volumes_and_forced_ones_have_the_class(axis):
    classes = np.zeros((10, 12, 14), dtype=np.int16)
    classes[np.unravel_index(777, classes.shape)] = 1
    patch = tuple(1 if one == axis else 6 for one in range(3))
    lone = of_classes(classes)
    sampler = Sampler([lone], patch, 4, 0.5, seed=0)
    slices = set()
    for step in range(20):
        image, found = sampler(step)
        assert image.shape == (4, 1, *patch)
        assert (found[2:] == 1).flatten(1).any(1).all()
        for slot in range(2):
            slices.add(int(sampler._location(step, slot)[1][axis]))
    assert len(slices) > 0.6 * classes.shape[axis]


def test_patches_not_forced_lie_where_something_is_known():
    """A scan of which one corner alone is annotated: nothing could be learnt from the rest."""
    classes = np.full((60, 60), IGNORE_INDEX, dtype=np.int16)
    classes[50:56, 2:8] = 0
    classes[53, 4] = 2
    sampler = Sampler([of_classes(classes)], (8, 8), 4, 0.5, seed=0)
    for step in range(10):
        found = sampler(step)[1]
        assert (found >= 0).flatten(1).any(1).all()
        assert (found[2:] == 2).flatten(1).any(1).all()


@pytest.mark.parametrize("value", [0, IGNORE_INDEX])
def test_cases_without_a_label_are_drawn_from_anywhere(value):
    sampler = Sampler([of_classes(np.full((9, 7), value, np.int16))], (4, 4), 8, 0.5, seed=0)
    starts = {tuple(sampler._location(step, slot)[1].tolist()) for step in range(60) for slot in range(8)}
    assert starts == {(y, x) for y in range(6) for x in range(4)}


def test_cases_smaller_than_a_patch_are_centred_and_the_rest_ignored():
    small = case(2, (5, 8, 12))
    image, classes = Sampler([small], (8, 8, 8), 1, 1.0, seed=0)(0)
    assert (image.shape, image.dtype) == ((1, 1, 8, 8, 8), torch.float32)
    assert (classes.shape, classes.dtype) == ((1, 8, 8, 8), torch.int64)
    outside = [0, 6, 7]
    assert (classes[0, outside] == IGNORE_INDEX).all()
    assert (image[0, 0, outside] == 0).all()
    assert (classes[0, 1:6] >= 0).all()


@given(shape=st.tuples(*[st.integers(1, 8)] * 3), patch=st.tuples(*[st.integers(8, 11)] * 3))
def test_small_cases_lie_in_a_patch_where_inference_puts_them(shape, patch):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    lone = CachedCase("case", image, np.zeros(shape, np.int16), {}, np.zeros(1, np.int64))
    trained = Sampler([lone], patch, 1, 0.0, seed=0)(0)[0][0]
    grid = PatchGrid.of(shape, patch, 0.5)
    assert np.array_equal(trained.numpy(), grid.cut(InMemorySlices(image, grid.axis), (0, 0, 0)))


def test_patches_of_image_and_classes_belong_together():
    image, classes = Sampler([case(seed, (12, 12, 12)) for seed in range(3)], (6, 6, 6), 4, 0.5, seed=0)(3)
    assert (image[:, 0].round() == classes).float().mean() > 0.95


def test_what_a_first_stage_found_comes_as_one_channel_a_label():
    rng = np.random.default_rng(0)
    found = rng.integers(0, 4, (7, 12, 9)).astype(np.int8)
    plain = case(0, (7, 12, 9))
    second = CachedCase(
        plain.id, plain.image, found.astype(np.int16), plain.class_locations, first_stage=found
    )  # so the patch shows its position
    image, classes = Sampler([second], (8, 8, 8), 2, 0.5, seed=0, previous=3)(0)
    assert image.shape == (2, 4, 8, 8, 8)
    for label in (1, 2, 3):
        assert torch.equal(image[:, label], (classes == label).float())
    assert torch.equal(image[:, :1], Sampler([plain], (8, 8, 8), 2, 0.5, seed=0)(0)[0])


def test_a_step_draws_the_same_whatever_came_before():
    plan = tiny_plan()
    augment = Augmenter(plan, AugmentSettings(flip_axes=(0,)), SIDED)
    cases = [case(seed, (12, 12, 12)) for seed in range(3)]
    through, resumed = (Sampler(cases, (8, 8, 8), 2, 0.34, 5, augment) for _ in range(2))
    batches = [through(step) for step in range(6)]
    for step in (4, 5):
        for one, two in zip(batches[step], resumed(step), strict=True):
            assert torch.equal(one, two)
    assert not torch.equal(batches[0][0], batches[3][0])
    assert not torch.equal(Sampler(cases, (8, 8, 8), 2, 0.34, 6, augment)(0)[0], batches[0][0])


def test_more_cases_than_files_may_be_open(tmp_path):
    classes = np.zeros((6, 6), np.int8)
    classes[2, 3] = 1
    for name, array in (("image", np.zeros((1, 6, 6), np.float16)), ("classes", classes), ("places", np.array([[2, 3]]))):
        np.save(tmp_path / f"{name}.npy", array)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        image, labels, places = (MappedArray.of(tmp_path / f"{name}.npy") for name in ("image", "classes", "places"))
        cases = [CachedCase(str(number), image, labels, {1: places}) for number in range(400)]
        found = [Sampler(cases, (3, 3), 4, 1.0, 0)(step)[1] for step in range(100)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all((one == 1).any() for one in found)
