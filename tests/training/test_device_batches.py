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
