import pytest
import torch
from monai.losses import DiceLoss
from torch.nn.functional import cross_entropy

from voxelry.labels import IGNORE_INDEX
from voxelry.train.loss import SMOOTH, deep_supervision, dice_ce


def batch(dimensions=3, classes=4, edge=6):
    torch.manual_seed(0)
    shape = (edge,) * dimensions
    return torch.randn(2, classes, *shape, requires_grad=True), torch.randint(0, classes, (2, *shape))


def reference(logits, labels):
    dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)
    return dice(logits, labels[:, None]) + cross_entropy(logits, labels)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_value_and_gradient_are_monais(dimensions, classes):
    logits, labels = batch(dimensions, classes)
    ours, theirs = dice_ce(logits, labels), reference(logits, labels)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    mine, other = (torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs))
    assert torch.allclose(mine, other, atol=1e-6)
    assert mine.abs().max() > 1e-4


def test_classes_in_no_window_do_not_count_as_failures():
    logits, labels = batch()
    labels[labels == 3] = 0
    assert dice_ce(logits, labels).item() == pytest.approx(reference(logits, labels).item(), abs=1e-5)


def test_ignored_voxels_count_nowhere():
    logits, labels = batch()
    labels[0, :3], labels[1, :, 2] = IGNORE_INDEX, IGNORE_INDEX
    ignored = labels == IGNORE_INDEX
    loss = dice_ce(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient.movedim(1, -1)[ignored] == 0).all()
    assert (gradient.movedim(1, -1)[~ignored] != 0).any()
    other = logits.detach().clone()
    other.movedim(1, -1)[ignored] = 50 * torch.randn(int(ignored.sum()), 4)
    assert dice_ce(other, labels).item() == pytest.approx(loss.item(), abs=1e-6)
    # the loss of what is left, as one row of voxels
    kept = logits.detach().movedim(1, -1)[~ignored].T[None, :, :, None]
    assert loss.item() == pytest.approx(reference(kept, labels[~ignored][None, :, None]).item(), abs=1e-5)


def test_a_window_that_is_ignored_whole_gives_no_gradient():
    logits, labels = batch()
    labels[:] = IGNORE_INDEX
    loss = dice_ce(logits, labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert (logits.grad == 0).all()


def test_a_perfect_answer_costs_nothing():
    _, labels = batch()
    logits = 40.0 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    assert dice_ce(logits, labels).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_beyond_float16_are_exact(dtype):
    labels = torch.zeros(1, 64, 64, 40, dtype=torch.long)
    labels[..., :20] = 1  # 81920 voxels: more than float16 can count
    logits = torch.stack([torch.zeros(labels.shape), labels * 2.0 - 1], 1)
    half = dice_ce(logits.to(dtype), labels)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(dice_ce(logits, labels).item(), abs=1e-5)


def test_heads_are_weighed_by_halves_against_labels_of_their_resolution():
    logits, labels = batch(edge=8)
    labels[:, :2] = IGNORE_INDEX
    coarse, coarsest = torch.randn(2, 4, 4, 4, 8), torch.randn(2, 4, 2, 2, 4)
    total = deep_supervision([logits, coarse, coarsest], labels)
    parts = [dice_ce(logits, labels), dice_ce(coarse, labels[:, 1::2, 1::2]), dice_ce(coarsest, labels[:, 2::4, 2::4, 1::2])]
    assert total.item() == pytest.approx(sum(w * p.item() for w, p in zip((4, 2, 1), parts, strict=True)) / 7, abs=1e-6)


def test_one_head_is_the_plain_loss():
    logits, labels = batch(2)
    assert torch.equal(deep_supervision([logits], labels), dice_ce(logits, labels))
