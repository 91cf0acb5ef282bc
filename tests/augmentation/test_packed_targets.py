import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.augmentation import EVERYTHING, augmenter, box, only
from voxelry.augmentation.gpu_augmentation import augment_batch
from voxelry.augmentation.packed_targets import PARTS, packed, packed_table
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import IGNORE_INDEX

HEAD = InstancePlan(labels=("liver",), diameter=5, border=1, erosion=1)


@given(count=st.integers(1, 30), seed=st.integers(0, 99))
def test_packed_values_come_apart_again(count, seed):
    rng = np.random.default_rng(seed)
    classes, parts = rng.integers(-1, count, 200), rng.integers(0, PARTS, 200)
    codes = packed(classes, parts, count)
    assert (codes[classes == IGNORE_INDEX] == IGNORE_INDEX).all()
    known = classes != IGNORE_INDEX
    assert np.array_equal(codes[known] % count, classes[known])
    assert np.array_equal(codes[known] // count, parts[known])


@given(count=st.integers(1, 9), seed=st.integers(0, 99))
def test_classes_are_exchanged_and_parts_stay(count, seed):
    rng = np.random.default_rng(seed)
    table = np.array([IGNORE_INDEX, *rng.permutation(count)])
    classes, parts = rng.integers(-1, count, 200), rng.integers(0, PARTS, 200)
    assert np.array_equal(packed_table(table)[packed(classes, parts, count) + 1], packed(table[classes + 1], parts, count))


def moved(make, seed):
    """Image, classes, parts and distances of a patch, moved with the head and, apart, without."""
    own = make(instances=HEAD)
    params = own.draw(seed)
    first, size = own.reach(params)
    image, classes = box(size.tolist(), seed)
    rng = np.random.default_rng(seed)
    parts, distance = rng.integers(0, PARTS, classes.shape), rng.integers(-127, 128, classes.shape).astype(np.float32)
    codes = packed(classes, parts, len(own.table) + 1)
    together = own.apply(params, first, np.concatenate([image, distance[None]]), codes)
    plain = make()
    apart = plain.apply(params, first, image, classes)
    parts_apart = plain.apply(params, first, image, np.where(classes < 0, -1, 0).astype(np.int16) + (classes >= 0) * parts)[1]
    bare = make_only_moves(make)
    distance_apart = bare.apply(params, first, distance[None], classes)[0][0]
    return together, apart, parts_apart, distance_apart, (own, params, image, distance, codes)


def make_only_moves(make):
    result = make()
    result.intensity = {}
    return result


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 500))
def test_targets_move_with_their_patch(seed):
    def make(**plan):
        return augmenter(only(rotation_p=0.7, scale_p=0.7, elastic_p=0.3, noise_p=0.5), (10, 12), **plan)

    (image, targets), apart, parts, distance, _ = moved(make, seed)
    assert torch.equal(image, apart[0])
    assert torch.equal(targets[0], apart[1])
    known = targets[0] != IGNORE_INDEX
    assert torch.equal(targets[1][known], parts[known])
    assert (targets[1][~known] == 0).all()
    assert (targets[2] - distance).abs().max() <= 0.501


def test_mirrored_labels_keep_their_parts():
    own = augmenter(only(flip_p=1.0), (6, 5, 4), instances=HEAD, orientation="RAS")
    params = own.draw(0)
    first, size = own.reach(params)
    image, classes = box(size.tolist())
    parts = np.random.default_rng(1).integers(0, 3, classes.shape)
    _, targets = own.apply(params, first, np.concatenate([image, image]), packed(classes, parts, 4))
    axes = own.move(params).flips
    swapped = np.array([-1, 0, *own.mirrored_classes[2:5]])[np.flip(classes, axes) + 1]
    assert 0 in axes
    assert np.array_equal(targets[0].numpy(), swapped)
    assert np.array_equal(targets[1].numpy(), np.flip(parts * (classes >= 0), axes))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 500))
def test_a_device_moves_as_the_cpu_does(seed):
    own = augmenter(EVERYTHING.model_copy(update={"noise_p": 0, "motion_p": 0, "ghosting_p": 0}), (9, 8), instances=HEAD)
    params = own.draw(seed)
    first, size = own.reach(params)
    image, classes = box(size.tolist(), seed)
    rng = np.random.default_rng(seed)
    codes = packed(classes, rng.integers(0, PARTS, classes.shape), len(own.table) + 1)
    both = np.concatenate([image, rng.integers(-127, 128, (1, *classes.shape))]).astype(np.float32)
    _, targets = own.apply(params, first, both, codes)
    _, on_device = augment_batch(torch.from_numpy(both)[None], torch.from_numpy(codes)[None], [params], own)
    same = on_device[0, 0] == targets[0]
    assert same.float().mean() > 0.97  # rounding decides between two voxels equally near
    assert torch.equal(on_device[0, 1][same], targets[1][same])
    inside = targets[0] != IGNORE_INDEX
    assert (on_device[0, 2] - targets[2])[inside & same].abs().max() <= 2
