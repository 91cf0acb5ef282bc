import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

from helpers.plans import SIDED, tiny_plan
from helpers.smallest import small
from voxelry.core.architectures import ARCHITECTURES
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import IGNORE_INDEX
from voxelry.core.plan import Region
from voxelry.networks.build import build_network
from voxelry.preparation.instance_targets import BORDER, CORE, FULL, instance_targets
from voxelry.recipes.settings import LossSettings
from voxelry.training.instance_loss import CORNER, head_loss
from voxelry.training.loss import make_loss

HEAD = InstancePlan(labels=(SIDED.names[0],), diameter=5, border=1, erosion=1)
COMPONENTS = HEAD.model_copy(update={"decoder": "components"})


def random_targets(shape, batch=2, seed=0, ignored=0.1):
    rng = np.random.default_rng(seed)
    classes, parts = rng.integers(0, 4, (batch, *shape)), rng.integers(0, 3, (batch, *shape))
    classes[rng.random(classes.shape) < ignored] = IGNORE_INDEX
    return torch.from_numpy(np.stack([classes, parts, rng.integers(-FULL, FULL + 1, classes.shape)], 1).astype(np.int16))


def test_border_and_core_against_monai_and_torch():
    outputs, targets = torch.randn(2, 3, 9, 8), random_targets((9, 8), ignored=0)
    truth = torch.stack([targets[:, 1] == BORDER, targets[:, 1] == CORE], 1).float()
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(outputs[:, :2], truth)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, :2], truth)
    near = targets[:, 2] > -FULL
    smooth = torch.nn.functional.smooth_l1_loss(outputs[:, 2][near], targets[:, 2][near] / FULL, beta=CORNER)
    assert head_loss(outputs, targets).item() == pytest.approx((dice + entropy + smooth).item(), rel=1e-5)


def test_ignored_voxels_have_no_gradient():
    outputs = torch.randn(2, 3, 9, 8, requires_grad=True)
    targets = random_targets((9, 8), ignored=0.5)
    head_loss(outputs, targets).backward()
    ignored = (targets[:, 0] == IGNORE_INDEX)[:, None].expand_as(outputs)
    assert (outputs.grad[ignored] == 0).all()
    assert (outputs.grad[:, :2][~ignored[:, :2]] != 0).all()


def test_nothing_counted_is_no_loss_and_no_nan():
    outputs = torch.randn(1, 3, 4, 4, requires_grad=True)
    targets = torch.full((1, 3, 4, 4), IGNORE_INDEX, dtype=torch.int16)
    loss = head_loss(outputs, targets)
    loss.backward()
    assert loss.isfinite()
    assert (outputs.grad == 0).all()


def test_a_perfect_head_has_hardly_any_loss():
    ids = np.zeros((16, 16), np.int32)
    ids[2:9, 2:9], ids[9:15, 5:14] = 1, 2
    wanted = instance_targets(ids, (1, 1), HEAD)
    targets = torch.from_numpy(np.stack([ids > 0, wanted.parts, wanted.distance])[None].astype(np.int16))
    right = torch.stack([(targets[:, 1] == BORDER) * 40.0 - 20, (targets[:, 1] == CORE) * 40.0 - 20, targets[:, 2] / FULL], 1)
    assert head_loss(right, targets).item() < 1e-5
    assert head_loss(-right, targets).item() > 10


def test_the_whole_is_the_classes_and_the_head_at_every_resolution():
    heads = [torch.randn(2, 7, 8, 8), torch.randn(2, 7, 4, 4)]
    targets = random_targets((8, 8))
    plan = tiny_plan(2, instances=HEAD)
    semantic = make_loss(LossSettings(), tiny_plan(2), SIDED)([head[:, :4] for head in heads], targets[:, 0])
    fine, coarse = head_loss(heads[0][:, 4:], targets), head_loss(heads[1][:, 4:], targets[:, :, 1::2, 1::2])
    for weight in (1.0, 0.25):
        whole = make_loss(LossSettings(instances=weight), plan, SIDED)(heads, targets)
        assert whole.item() == pytest.approx((semantic + weight * (2 / 3 * fine + 1 / 3 * coarse)).item(), rel=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("regions", [False, True])
def test_every_network_takes_a_step_with_a_head(name, dimensions, regions):
    labels = SIDED.names
    members = tuple(Region(name=f"r{n}", labels=labels[n:], label=label) for n, label in enumerate(labels)) if regions else ()
    plan = small(name, dimensions, instances=HEAD, regions=members)
    network = build_network(plan, 4)
    heads = network(torch.randn(2, 1, *plan.patch_size))
    assert all(head.shape[1] == 7 for head in heads)
    loss = make_loss(LossSettings(), plan, SIDED)(heads, random_targets(plan.patch_size))
    loss.backward()
    assert loss.isfinite()
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]  # the coarsest head weighs nothing
    assert len(gradients) >= 4
    assert all(gradient.isfinite().all() for gradient in gradients)
    if regions:
        assert (heads[0][:, 0] == 0).all()


def test_slices_have_a_head_too():
    plan = small("dynunet", 3, across=1, instances=HEAD)
    heads = build_network(plan, 4)(torch.randn(2, 1, *plan.patch_size))
    assert heads[0].shape == (2, 7, *plan.patch_size)
    make_loss(LossSettings(), plan, SIDED)(heads, random_targets(plan.patch_size)).backward()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_a_head_a_network_is_as_before(name):
    plain, components = small(name, 2), small(name, 2, instances=COMPONENTS)
    shapes = [{key: value.shape for key, value in build_network(plan, 4).state_dict().items()} for plan in (plain, components)]
    assert shapes[0] == shapes[1]
    assert type(make_loss(LossSettings(), components, SIDED)) is type(make_loss(LossSettings(), plain, SIDED))
