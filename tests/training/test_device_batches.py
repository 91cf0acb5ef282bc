from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from helpers.plans import SIDED, tiny_plan
from helpers.training_cases import case
from voxelry.augmentation.augment_settings import AugmentSettings
from voxelry.augmentation.augmenter import Augmenter
from voxelry.core.instance_plan import InstancePlan
from voxelry.preparation.instance_targets import instance_targets
from voxelry.training.device_batches import DeviceAugmentation
from voxelry.training.prefetch import BatchLoader
from voxelry.training.sampler import Sampler

CHOSEN = AugmentSettings(set="nnunet", rotation_p=0.7, scale_p=0.7, noise_p=0.5, blur_p=0.5, low_resolution_p=0.5)


def sampler(dimensions=3, **changes):
    plan = tiny_plan(dimensions, **changes)
    cases = [case(seed, (13, 12, 11)[:dimensions]) for seed in range(3)]
    cascade = plan.configuration == "3d_cascade"
    if cascade:
        cases = [replace(one, first_stage=np.ascontiguousarray(one.classes[::-1]).astype(np.int8)) for one in cases]
    return Sampler(cases, plan.patch_size, 3, 0.5, 1, Augmenter(plan, CHOSEN, SIDED), previous=3 * cascade)


@pytest.mark.parametrize(("dimensions", "changes"), [(3, {}), (2, {}), (3, {"configuration": "3d_cascade"})])
def test_the_same_patches_as_on_the_cpu(dimensions, changes):
    here = sampler(dimensions, **changes)
    boxed = replace(here, on_device=True)
    change = DeviceAugmentation(boxed)
    for step in range(6):
        image_BC, classes_B = boxed(step)
        assert image_BC.dtype == torch.float16
        made, labels = change(image_BC, classes_B, step)
        wanted, indices = here(step)
        assert (made.shape, made.dtype, labels.dtype) == (wanted.shape, torch.float32, torch.int64)
        assert (labels != indices).float().mean() < 2e-3  # at exactly half a voxel
        assert (made[:, 0] - wanted[:, 0]).abs().max() < 2e-3
        assert (made[:, 1:] != wanted[:, 1:]).sum() < 2e-3 * wanted.numel()


def test_nothing_moved_reads_no_more_than_a_patch():
    still = Augmenter(tiny_plan(), AugmentSettings(set="nnunet", rotation_p=0, scale_p=0), SIDED)
    boxed = replace(sampler(), augment=still, on_device=True)
    assert boxed(0)[0].shape == (3, 1, 8, 8, 8)


def test_a_feed_changes_batches_by_their_numbers():
    boxed = replace(sampler(), on_device=True)
    feed = BatchLoader(boxed, torch.device("cpu"), torch.channels_last_3d, DeviceAugmentation(boxed))
    with closing(feed.batches(4)) as batches:
        for number, (image_BC, classes_B) in zip((4, 5), islice(batches, 2), strict=True):
            wanted, indices = DeviceAugmentation(boxed)(*boxed(number), number)
            assert torch.equal(image_BC, wanted)
            assert image_BC.is_contiguous(memory_format=torch.channels_last_3d)
            assert torch.equal(classes_B, indices)


def test_targets_of_a_head_come_with_the_patches_of_a_device():
    head = InstancePlan(labels=(SIDED.names[0],), diameter=4, border=1, erosion=1)
    plan = tiny_plan(2, instances=head)
    prepared = case(0, (20, 18))
    targets = instance_targets(prepared.classes.astype(np.int32), (1, 1), head)
    cases = [replace(prepared, targets=targets)]
    own = Augmenter(plan, AugmentSettings(set="light", noise_p=0, blur_p=0, gamma_p=0, brightness_p=0, contrast_p=0), SIDED)
    on_cpu = Sampler(cases, plan.patch_size, 4, 1.0, 0, own, head_classes=4)
    on_device = Sampler(cases, plan.patch_size, 4, 1.0, 0, own, head_classes=4, on_device=True)
    for number in range(4):
        image, wanted = on_cpu(number)
        moved, made = DeviceAugmentation(on_device)(*on_device(number), number)
        assert made.shape == wanted.shape == (4, 3, 8, 8)
        assert torch.allclose(moved, image, atol=0.02)
        assert (made[:, :2] == wanted[:, :2]).float().mean() > 0.97
        assert (made[:, 2] - wanted[:, 2]).abs().float().mean() < 2
