import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from helpers.augmentation import EVERYTHING, as_json, augmenter, box, flips_of, from_json, only, params_of
from voxelry.augmentation.elastic import Elastic
from voxelry.core.labels import IGNORE_INDEX


def run(change, seed=1, channels=1):
    """A patch of random values: what was drawn, the box that was read, and the result."""
    drawn = change.draw(seed)
    first, size = change.reach(drawn)
    image, classes = box(size.tolist(), seed, channels)
    return drawn, first, image, classes, *change.apply(drawn, first, image, classes)


def places(drawn, first, patch, shift=None):
    """Where in the box each voxel of the patch comes from, before it is mirrored."""
    axes = len(patch)
    matrix = np.eye(axes, axes + 1)
    for affine in params_of(drawn, "affine"):
        matrix = np.array(affine.matrix)
    voxels = np.indices(patch).astype(float) + (0 if shift is None else shift)
    moved = np.einsum("ij,j...->i...", matrix[:, :-1], voxels)
    return moved + (matrix[:, -1] - first).reshape(-1, *(1,) * axes)


def expected_classes(classes, place):
    whole = np.floor(place + 0.5).astype(int)
    edges = np.array(classes.shape).reshape(-1, *(1,) * classes.ndim)
    inside = ((whole >= 0) & (whole < edges)).all(axis=0)
    return np.where(inside, classes[tuple(np.clip(whole, 0, edges - 1))], IGNORE_INDEX)


PLANS = [
    ((12, 14, 16), {}),
    ((12, 14, 16), {"spacing": (1.0, 2.0, 0.5)}),
    ((20, 24), {"orientation": None}),
    ((4, 16, 20), {"coarse_axis": 0}),
    ((16, 4, 20), {"coarse_axis": 1}),
    ((16, 20, 1), {"slice_axis": 2}),
]


@pytest.mark.parametrize(("patch", "changes"), PLANS)
@pytest.mark.parametrize("elastic", [0, 1])
def test_moves_as_scipy_moves(patch, changes, elastic):
    change = augmenter(only(rotation_p=1, scale_p=1, shift_p=1, shift=0.2, elastic_p=elastic), patch, **changes)
    for seed in range(4):
        drawn, first, image, classes, made, labels = run(change, seed)
        shift = None
        if elastic:
            shift = Elastic().displacement(*params_of(drawn, "elastic"), change.geometry)
        place = places(drawn, first, patch, shift)
        wanted = map_coordinates(image[0], place, order=1, mode="grid-constant", cval=0)
        assert np.abs(made[0].numpy() - wanted).max() < (2e-4 if elastic else 1e-5)
        differ = labels.numpy() != expected_classes(classes, place)
        assert differ.mean() < (1e-3 if elastic else 1e-9)  # rounding at exactly half a voxel


@pytest.mark.parametrize(("patch", "changes"), PLANS)
def test_nothing_of_the_case_is_lost_at_the_edge_of_a_patch(patch, changes):
    change = augmenter(only(rotation_p=1, scale_p=1, shift_p=1, shift=0.3, elastic_p=0.5), patch, **changes)
    for seed in range(30):
        drawn = change.draw(seed)
        first, size = change.reach(drawn)
        made, labels = change.apply(drawn, first, np.ones((1, *size), np.float32), np.full(size, 2, np.int16))
        assert (labels == 2).all()
        assert torch.allclose(made, torch.ones(1))


def test_beyond_the_case_is_ignored():
    change = augmenter(only(scale_p=1, scale=(0.5, 0.5)), (12, 12))
    drawn = change.draw(0)
    first, size = change.reach(drawn)
    image, classes = np.zeros((1, *size), np.float32), np.full(size, IGNORE_INDEX, np.int16)
    inside = tuple(slice(-begin, 12 - begin) for begin in first)
    image[(0, *inside)], classes[inside] = 1, 2
    made, labels = change.apply(drawn, first, image, classes)
    wanted = torch.full((12, 12), IGNORE_INDEX)
    wanted[3:9, 3:9] = 2
    assert torch.equal(labels, wanted)
    assert torch.equal(made[0], (wanted == 2).float())


def test_a_scale_above_one_enlarges():
    change = augmenter(only(scale_p=1, scale=(1.5, 1.5)), (12, 12))
    drawn = change.draw(0)
    first, size = change.reach(drawn)
    classes = np.zeros(size, np.int16)
    classes[tuple(slice(4 - begin, 8 - begin) for begin in first)] = 1
    assert int((change.apply(drawn, first, np.zeros((1, *size), np.float32), classes)[1] == 1).sum()) == 36


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dimensions=st.sampled_from([2, 3]))
def test_one_seed_repeats_a_patch_and_the_record_is_json(seed, dimensions):
    change = augmenter(EVERYTHING, (12,) * dimensions)
    drawn, first, image, classes, made, labels = run(change, seed)
    torch.manual_seed(1)
    again = from_json(as_json(drawn))
    assert again == change.draw(seed) == drawn
    other = augmenter(EVERYTHING, (12,) * dimensions).apply(again, first, image, classes)
    assert torch.equal(made, other[0])
    assert torch.equal(labels, other[1])
    assert change.draw(seed + 1) != drawn


@pytest.mark.parametrize(("patch", "changes"), PLANS)
def test_shapes_types_and_values(patch, changes):
    change = augmenter(EVERYTHING.model_copy(update={"colour_p": 0}), patch, channels=("a", "b"), **changes)
    for seed in range(3):
        made, labels = run(change, seed, 2)[-2:]
        assert (made.shape, made.dtype, made.is_contiguous()) == ((2, *patch), torch.float32, True)
        assert (labels.shape, labels.dtype, labels.is_contiguous()) == (patch, torch.int64, True)
        assert set(labels.unique().tolist()) <= {-1, 0, 1, 2, 3}
        assert torch.isfinite(made).all()
        assert not torch.equal(made[0], made[1])


def test_nothing_is_changed_at_probability_zero():
    _, _, image, classes, made, labels = run(augmenter(only()))
    assert np.array_equal(made.numpy(), image)
    assert np.array_equal(labels.numpy(), classes)


def test_what_is_given_stays():
    change = augmenter(EVERYTHING)
    drawn = change.draw(3)
    first, size = change.reach(drawn)
    image, classes = box(size.tolist())
    before = image.copy(), classes.copy()
    change.apply(drawn, first, image, classes)
    assert np.array_equal(image, before[0])
    assert np.array_equal(classes, before[1])


@pytest.mark.parametrize("moved", [0, 1])
@pytest.mark.parametrize(("axis", "sided"), [(0, True), (1, False), (2, False)])
def test_flips_across_the_sides_of_the_body_swap_the_twins(axis, sided, moved):
    chosen = {"rotation_p": moved, "scale_p": moved}
    change, plain = augmenter(only(flip_axes=(axis,), flip_p=1, **chosen)), augmenter(only(**chosen, flip_axes=(axis,)))
    drawn, first, image, classes, made, labels = run(change)
    assert flips_of(drawn) == (axis,)
    unmirrored = replace(drawn, changes=tuple(each for each in drawn.changes if each.kind != "flip"))
    straight, unswapped = plain.apply(unmirrored, first, image, classes)
    twin = {-1: -1, 0: 0, 1: 2, 2: 1, 3: 3} if sided else {value: value for value in range(-1, 4)}
    assert torch.equal(made, straight.flip(axis + 1))
    assert np.array_equal(labels.numpy(), np.vectorize(twin.get)(unswapped.flip(axis).numpy()))


def test_outside_the_content_stays_zero():
    plan = {"normalisation": ({"scheme": "mask"}, {"scheme": "image"}), "channels": ("a", "b")}
    change = augmenter(only(noise_p=1, brightness_p=1, gamma_p=1, inverted_gamma_p=1), **plan)
    drawn = change.draw(0)
    image, classes = box((12, 12, 12), channels=2)
    image[:, :4] = 0
    made = change.apply(drawn, np.zeros(3, np.int64), image, classes)[0]
    assert (made[0, :4] == 0).all()
    assert (made[0, 4:] != 0).all()
    assert (made[1] != 0).all()


def test_a_cascade_moves_its_first_labels_with_the_others():
    change = augmenter(only(rotation_p=1, scale_p=1, flip_p=1, noise_p=1), configuration="3d_cascade")
    drawn = change.draw(5)
    first, size = change.reach(drawn)
    image, classes = box(size.tolist())
    found = np.maximum(classes, 0)
    made, labels = change.apply(drawn, first, np.concatenate([image, found[None]]), classes)
    assert made.shape == (4, 12, 12, 12)
    for index in (1, 2, 3):
        assert torch.equal(made[index], (labels == index).float())


def test_patches_are_made_side_by_side():
    """The loops hold no lock: another thread goes on counting while patches are made."""
    change = augmenter(only(rotation_p=1, gamma_p=1, blur_p=1), (64, 64, 64))
    run(change)
    count, stop = [0], threading.Event()

    def counts():
        while not stop.is_set():
            count[0] += 1
            time.sleep(0)

    worker = threading.Thread(target=counts)
    worker.start()
    drawn = change.draw(1)
    first, size = change.reach(drawn)
    image, classes = box(size.tolist())
    before, longest = count[0], 0
    for _ in range(5):
        change.apply(drawn, first, image, classes)
        longest, before = max(longest, count[0] - before), count[0]
    stop.set()
    worker.join()
    assert longest > 50


def test_no_warning_is_given():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(augmenter(EVERYTHING))
