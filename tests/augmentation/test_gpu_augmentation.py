import numpy as np
import pytest
import torch

from helpers.augmentation import INTENSITY, augmenter, only
from voxelry.augmentation.gpu_augmentation import augment_batch

KINDS = [each.name for each in INTENSITY]
TOGETHER = [{}, {"flip_p": 1}, {"rotation_p": 1, "scale_p": 1, "flip_p": 1}, {"rotation_p": 1, "elastic_p": 1}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_a_patch_of_one_value_stays_finite(kind, value):
    change = augmenter(only(**{f"{kind}_p": 1}), (8, 8, 8))
    drawn = change.draw(0)
    assert {each.kind for each in drawn.changes} == {kind, "cascade_noise"}
    made = change.apply(drawn, np.zeros(3, np.int64), np.full((1, 8, 8, 8), value, np.float32), np.zeros((8, 8, 8), np.int16))
    assert torch.isfinite(made[0]).all()


@pytest.mark.parametrize("parts", [*TOGETHER, *({f"{kind}_p": 1} for kind in KINDS)], ids=str)
@pytest.mark.parametrize(
    ("patch", "changes"),
    [((16, 20, 24), {}), ((24, 20), {}), ((4, 20, 16), {"coarse_axis": 0}), ((12, 16, 12), {"configuration": "3d_cascade"})],
)
def test_the_device_changes_a_batch_as_the_cpu_does(patch, changes, parts):
    chosen = only(**parts, blur_per_channel=0.7, low_resolution_per_channel=0.7)
    change = augmenter(chosen, patch, channels=("a", "b"), **changes)
    draws = [change.draw(seed) for seed in range(3)]
    reached = [change.reach(drawn) for drawn in draws]
    size = tuple(np.max([one for _, one in reached], axis=0).tolist())
    rng = np.random.default_rng(0)
    classes = rng.integers(-1, 4, (3, *size)).astype(np.int16)
    image = rng.normal(size=(3, 2 + change.is_cascade, *size)).astype(np.float16)
    if change.is_cascade:
        image[:, 2] = np.maximum(classes, 0)
    made, labels = augment_batch(torch.from_numpy(image), torch.from_numpy(classes), draws, change)
    for index, (drawn, (first, _)) in enumerate(zip(draws, reached, strict=True)):
        wanted, indices = change.apply(drawn, first, image[index], classes[index])
        assert (labels[index] != indices).float().mean() < 1e-3  # at exactly half a voxel
        assert (made[index, :2] - wanted[:2]).abs().max() < 1e-3
        assert (made[index, 2:] != wanted[2:]).sum() < 1e-3 * wanted.numel()
    assert (made.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_all_at_once_on_the_device():
    chosen = only(**dict.fromkeys((*(f"{kind}_p" for kind in KINDS), "rotation_p", "scale_p", "flip_p"), 1))
    change = augmenter(chosen, (16, 16, 16), normalisation=({"scheme": "mask"},))
    draws = [change.draw(seed) for seed in (0, 1)]
    reached = [change.reach(drawn) for drawn in draws]
    size = tuple(np.max([one for _, one in reached], axis=0).tolist())
    image = np.random.default_rng(0).normal(size=(2, 1, *size)).astype(np.float32)
    classes = np.zeros((2, *size), np.int16)
    made, _ = augment_batch(torch.from_numpy(image), torch.from_numpy(classes), draws, change)
    for index, (drawn, (first, _)) in enumerate(zip(draws, reached, strict=True)):
        assert (made[index] - change.apply(drawn, first, image[index], classes[index])[0]).abs().max() < 5e-3
