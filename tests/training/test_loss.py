"""Losses and their gradients against MONAI's, in float64; ignored voxels against the loss of the others alone."""

import itertools
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceFocalLoss, DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, interpolate, one_hot

from helpers.plans import SIDED, tiny_plan
from voxelry.core.labels import IGNORE_INDEX, Label, LabelTable
from voxelry.errors import ConfigError
from voxelry.networks.classes import make_regions
from voxelry.recipes.settings import LossSettings
from voxelry.training.loss import LOSSES, SMOOTH, head_weights, make_loss, reduced
from voxelry.training.soft_counts import soft_counts_of_classes, summed_by_comparison

NAMES = tuple(LOSSES)
WITH_ORACLE = ("dice_ce", "dice_focal", "tversky", "generalised_dice")
"""Losses that MONAI has too; a loss without such a twin is compared in a test of its own."""
HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-loss.md"
SMOOTHS = {"smooth_nr": SMOOTH, "smooth_dr": SMOOTH}
TUMOUR = LabelTable(labels=tuple(Label(value=10 + n, name=name) for n, name in enumerate(("edema", "core", "enhancing"))))
NESTED = {"whole": ("edema", "core", "enhancing"), "inner": ("core", "enhancing"), "active": ("enhancing",)}


def loss_of(name="dice_ce", classes=4, regions=None, **changes):
    table = LabelTable(labels=tuple(Label(value=n, name=f"label {n}") for n in range(1, classes)))
    plan = tiny_plan()
    if regions:
        table, plan = TUMOUR, tiny_plan(regions=make_regions(regions, TUMOUR))
    return make_loss(LossSettings(name=name, **changes), plan, table)


def batch(shape=(2, 4, 6, 6, 6), seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]))
    return torch.randn(*shape, dtype=dtype, requires_grad=True), labels


def monais(name, logits, target, *, batch_dice=True, weights=None, sigmoid=False, gamma=2.0, alpha=0.3, beta=0.7):
    """The same loss from MONAI's classes; `target` is one-hot, or the masks of regions (then without background)."""
    skip = {"include_background": sigmoid, "sigmoid": sigmoid, "softmax": not sigmoid, "batch": batch_dice}
    every = torch.ones(logits.shape[1], dtype=logits.dtype) if weights is None else weights.to(logits.dtype)
    shown = every if sigmoid else every[1:]
    if name == "generalised_dice":
        truth = target.sum(dim=[0, *range(2, target.ndim)] if batch_dice else list(range(2, target.ndim)), keepdim=True)
        least = torch.where(truth > 0, truth, torch.inf).amin(1, keepdim=True)
        assert weights is None
        # MONAI's weights are absolute, ours relative to the smallest class: the smoothing terms are scaled alike
        values = [
            GeneralizedDiceLoss(
                **(skip | {"include_background": True}), smooth_nr=SMOOTH / float(one) ** 2, smooth_dr=SMOOTH / float(one) ** 2
            )(logits[part], target[part])
            for one, part in zip(
                least.flatten(), [slice(None)] if batch_dice else [slice(n, n + 1) for n in range(len(target))], strict=True
            )
        ]
        return torch.stack(values).mean()
    if name == "tversky":
        parts = TverskyLoss(**skip, **SMOOTHS, alpha=alpha, beta=beta, reduction="none")(logits, target)
    else:
        parts = DiceLoss(**skip, **SMOOTHS, reduction="none")(logits, target)
    parts = parts.reshape(-1, len(shown))
    overlap = (parts.mean(0) * shown).sum() / shown.sum()
    if name not in ("dice_ce", "dice_focal"):
        return overlap
    column = every.reshape(-1, *(1,) * (logits.ndim - 2))
    if name == "dice_focal":
        voxels = FocalLoss(use_softmax=not sigmoid, gamma=gamma, reduction="none")(logits, target)
    elif sigmoid:
        voxels = binary_cross_entropy_with_logits(logits, target, reduction="none")
    else:
        return overlap + cross_entropy(logits, target.argmax(1), weight=every)
    share = column.expand_as(voxels[0]).sum() * len(voxels) if sigmoid else (target * column).sum()
    return overlap + (voxels * column).sum() / share


def encoded(labels, count):
    return one_hot(labels, count).movedim(-1, 1).double()


def assert_alike(ours, theirs, logits):
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    mine, other = (torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs))
    assert torch.allclose(mine, other, atol=1e-7, rtol=1e-5)
    assert mine.abs().max() > 1e-5


@pytest.mark.parametrize("name", WITH_ORACLE)
@given(
    shape=st.sampled_from([(2, 2, 5, 4), (3, 4, 6, 6), (2, 4, 4, 5, 3), (1, 7, 3, 3, 3)]),
    batch_dice=st.booleans(),
    seed=st.integers(0, 99),
    absent=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_values_and_gradients_are_monais(name, shape, batch_dice, seed, absent):
    logits, labels = batch(shape, seed)
    if absent:
        labels[0][labels[0] == shape[1] - 1] = 0
    ours = loss_of(name, shape[1], batch_dice=batch_dice)([logits], labels)
    assert_alike(ours, monais(name, logits, encoded(labels, shape[1]), batch_dice=batch_dice), logits)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_dice_focal_of_regions_is_monais_own(gamma):
    """Of classes, MONAI's DiceFocalLoss joins softmax Dice with sigmoid focal loss: `monais` takes its parts."""
    logits, labels = batch()
    masks = torch.stack([labels >= 1, labels >= 2, labels >= 3], 1).double()
    theirs = DiceFocalLoss(sigmoid=True, gamma=gamma, batch=True, **SMOOTHS)(logits[:, 1:], masks)
    assert_alike(loss_of("dice_focal", regions=NESTED, focal_gamma=gamma)([logits], labels), theirs, logits)


def test_a_focal_loss_without_focus_is_cross_entropy():
    logits, labels = batch()
    assert torch.equal(loss_of("dice_focal", focal_gamma=0)([logits], labels), loss_of("dice_ce")([logits], labels))


def test_a_tversky_index_with_halves_is_dice():
    logits, labels = batch()
    theirs = DiceLoss(softmax=True, include_background=False, batch=True, smooth_nr=2 * SMOOTH, smooth_dr=2 * SMOOTH)
    ours = loss_of("tversky", alpha=0.5, beta=0.5)([logits], labels)
    assert_alike(ours, theirs(logits, encoded(labels, 4)), logits)


@pytest.mark.parametrize("name", ["dice_ce", "dice_focal", "tversky"])
def test_class_weights_are_shares(name):
    logits, labels = batch()
    ours = loss_of(name, weights={"label 2": 5.0})([logits], labels)
    assert_alike(ours, monais(name, logits, encoded(labels, 4), weights=torch.tensor([1, 1, 5, 1])), logits)
    alike = loss_of(name, weights={f"label {n}": 1.0 for n in (1, 2, 3)})([logits], labels)
    assert torch.equal(alike, loss_of(name)([logits], labels))


def test_a_class_weight_counts_in_generalised_dice():
    logits, labels = batch()
    heavy = loss_of("generalised_dice", weights={"label 1": 1e6})([logits], labels)
    shares, target = logits.softmax(1)[:, 1], (labels == 1).double()
    alone = 1 - 2 * (shares * target).sum() / (shares.sum() + target.sum())
    assert heavy.item() == pytest.approx(alone.item(), abs=1e-4)


@pytest.mark.parametrize("name", WITH_ORACLE)
@given(batch_dice=st.booleans(), seed=st.integers(0, 99), overlapping=st.booleans())
@settings(max_examples=15, deadline=None)
def test_regions_are_binary_problems(name, batch_dice, seed, overlapping):
    logits, labels = batch((2, 4, 5, 4, 3), seed)
    regions = {"one": ("edema", "core"), "two": ("core", "enhancing"), "three": ("enhancing",)} if overlapping else NESTED
    masks = torch.stack(
        [sum((labels == 1 + TUMOUR.names.index(one)).double() for one in members) for members in regions.values()], 1
    )
    ours = loss_of(name, regions=regions, batch_dice=batch_dice)([logits], labels)
    shown = logits[:, 1:]
    assert_alike(ours, monais(name, shown, masks, batch_dice=batch_dice, sigmoid=True), logits)
    (gradient,) = torch.autograd.grad(loss_of(name, regions=regions)([logits], labels), logits)
    assert (gradient[:, 0] == 0).all()


@pytest.mark.parametrize("name", ["dice_ce", "dice_focal", "tversky"])
def test_regions_may_have_weights(name):
    logits, labels = batch((2, 4, 5, 4, 3))
    masks = torch.stack([labels >= 1, labels >= 2, labels >= 3], 1).double()
    ours = loss_of(name, regions=NESTED, weights={"inner": 3.0})([logits], labels)
    assert_alike(ours, monais(name, logits[:, 1:], masks, sigmoid=True, weights=torch.tensor([1, 3, 1])), logits)


ALL = [(name, regions) for name, regions in itertools.product(NAMES, (None, NESTED))]


@pytest.mark.parametrize(("name", "regions"), ALL)
@given(seed=st.integers(0, 99), share=st.floats(0.05, 0.95))
@settings(max_examples=10, deadline=None)
def test_ignored_voxels_count_nowhere(name, regions, seed, share):
    logits, labels = batch((1, 4, 6, 5, 4), seed)
    ignored = torch.rand(labels.shape) < share
    ignored[0, 0, 0, 0], ignored[0, 1, 0, 0] = True, False
    given_labels = torch.where(ignored, IGNORE_INDEX, labels)
    loss = loss_of(name, regions=regions, weights={} if regions else {"label 1": 2.0})
    ours = loss([logits], given_labels)
    (gradient,) = torch.autograd.grad(ours, logits)
    assert (gradient.movedim(1, -1)[ignored] == 0).all()
    assert (gradient.movedim(1, -1)[~ignored] != 0).any()
    # what is left, as one row of voxels
    kept = logits.detach().movedim(1, -1)[~ignored].T[None].clone().requires_grad_()
    alone = loss([kept], labels[~ignored][None])
    assert ours.item() == pytest.approx(alone.item(), abs=1e-9)
    (other,) = torch.autograd.grad(alone, kept)
    assert torch.allclose(gradient.movedim(1, -1)[~ignored], other[0].T, atol=1e-10)


@pytest.mark.parametrize(("name", "regions"), ALL)
def test_a_patch_that_is_ignored_whole_gives_no_gradient(name, regions):
    logits, labels = batch()
    labels[:] = IGNORE_INDEX
    loss = loss_of(name, regions=regions)([logits], labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("name", "regions"), ALL)
@pytest.mark.parametrize("batch_dice", [False, True])
def test_gradients_are_those_of_finite_differences(name, regions, batch_dice):
    logits, labels = batch((2, 4, 3, 2), seed=3)
    labels[0, 0] = IGNORE_INDEX
    loss = loss_of(name, regions=regions, batch_dice=batch_dice)
    assert torch.autograd.gradcheck(lambda x: loss([x], labels), logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_answer_costs_nothing(name):
    _, labels = batch()
    assert loss_of(name)([40.0 * encoded(labels, 4).float()], labels).item() == pytest.approx(0, abs=1e-5)
    masks = torch.stack([labels >= n for n in range(4)], 1).float()
    assert loss_of(name, regions=NESTED)([80 * masks - 40], labels).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_sums_beyond_float16_are_exact(dtype, name):
    labels = torch.zeros(1, 64, 64, 40, dtype=torch.long)
    labels[..., :20] = 1  # 81920 voxels: more than float16 can count
    logits = torch.stack([torch.zeros(labels.shape), labels * 2.0 - 1], 1)
    half = loss_of(name, 2)([logits.to(dtype)], labels)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(loss_of(name, 2)([logits.double()], labels).item(), abs=1e-6)


def test_sums_by_class_are_those_of_a_one_hot():
    logits, labels = batch()
    logits, labels, counted = logits.detach().flatten(2), labels.flatten(1), torch.rand(2, 216) < 0.8
    ours = soft_counts_of_classes(logits, labels, counted)
    truth, shares = encoded(labels, 4) * counted[:, None], logits.softmax(1) * counted[:, None]
    for mine, theirs in ((ours.overlap, shares * truth), (ours.predicted, shares), (ours.truth, truth)):
        assert torch.allclose(mine, theirs.sum(2))
    assert torch.allclose(summed_by_comparison(counted.double(), labels, 4), ours.truth)  # how a GPU adds


@pytest.mark.parametrize("dimensions", [2, 3])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_coarser_labels_are_torchs_nearest(dimensions, data):
    shape = [data.draw(st.integers(1, 12)) for _ in range(dimensions)]
    coarse = [data.draw(st.integers(1, edge)) for edge in shape]
    labels = torch.from_numpy(np.random.default_rng(0).integers(-1, 50, (2, *shape)))
    expected = interpolate(labels[:, None].double(), size=coarse, mode="nearest-exact")[:, 0].long()
    exact = [(2 * i + 1) * n % (2 * m) for n, m in zip(shape, coarse, strict=True) for i in range(m)]
    ours = reduced(labels, coarse)
    assert ours.shape == expected.shape
    assert ours.dtype == labels.dtype
    if all(exact):  # torch computes middles in floating point
        assert torch.equal(ours, expected)


def test_heads_are_weighed_by_halves_and_the_coarsest_of_several_is_not_trained():
    assert head_weights(1) == [1.0]
    assert head_weights(2) == pytest.approx([2 / 3, 1 / 3])
    assert head_weights(4) == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])


def test_each_head_is_compared_with_labels_of_its_resolution():
    logits, labels = batch((2, 4, 8, 8, 8))
    labels[:, :2] = IGNORE_INDEX
    coarse, coarsest = torch.randn(2, 4, 4, 4, 8), torch.randn(2, 4, 2, 2, 4)
    loss = loss_of()
    total = loss([logits, coarse, coarsest], labels)
    parts = [loss([logits], labels), loss([coarse], labels[:, 1::2, 1::2])]
    assert total.item() == pytest.approx((2 * parts[0].item() + parts[1].item()) / 3, abs=1e-6)


def test_logits_in_any_memory_order_and_small_integers_are_taken():
    logits, labels = batch()
    last = logits.detach().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    ours, other = (loss_of()([one], two) for one, two in ((logits, labels), (last, labels.short())))
    assert ours.item() == other.item()
    assert torch.equal(*(torch.autograd.grad(loss, one)[0] for loss, one in ((ours, logits), (other, last))))


def test_a_weight_for_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"loss.weights names 'spin', which is no label. Did you mean 'spine'"):
        make_loss(LossSettings(weights={"spin": 2.0}), tiny_plan(), SIDED)
    with pytest.raises(ConfigError, match="'edema', which is no region"):
        loss_of(regions=NESTED, weights={"edema": 2.0})


def test_a_plan_whose_regions_were_changed_by_hand_is_refused():
    whole, *parts = make_regions(NESTED, TUMOUR)
    changed = tiny_plan(regions=(whole.model_copy(update={"label": "core"}), *parts))
    with pytest.raises(ConfigError, match=r"whole known by core, .*Plan again"):
        make_loss(LossSettings(), changed, TUMOUR)


def test_many_classes_need_little_memory():
    """One array of all classes is kept for the gradient."""
    logits, labels = batch((1, 60, 20, 20, 20), dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: (kept.append(one), one)[1], lambda one: one):
        loss_of(classes=60)([logits], labels)
    assert sum({one.untyped_storage().data_ptr(): one.nbytes for one in kept}.values()) < 1.1 * logits.nbytes


# The table


def test_every_name_of_a_recipe_is_a_row_of_the_table():
    assert get_args(LossSettings.model_fields["name"].annotation) == NAMES
    fields = set(LossSettings.model_fields)
    assert all(set(kind.settings) <= fields for kind in LOSSES.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_depends_on_the_settings_that_its_row_names(name):
    """Each of its own keys changes it, and no other loss's key does."""
    own = {key for kind in LOSSES.values() for key in kind.settings}
    changes = {key: 1.5 * LossSettings.model_fields[key].default for key in sorted(own)}
    logits, labels = batch()
    plain = loss_of(name)([logits], labels)
    for key, value in changes.items():
        changed = not torch.equal(loss_of(name, **{key: value})([logits], labels), plain)
        assert changed == (key in LOSSES[name].settings)


def test_the_example_of_the_how_to_is_a_loss(monkeypatch):
    (example,) = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for name, kind in {**LOSSES, "log_cosh_dice": None}.items():
        monkeypatch.setitem(LOSSES, name, kind)  # restored afterwards
    exec(example, {})
    plan = tiny_plan()
    settings = LossSettings.model_construct(**LossSettings().model_dump() | {"name": "log_cosh_dice"})
    logits, labels = batch()
    dice = make_loss(LossSettings(name="tversky", alpha=0.5, beta=0.5, batch_dice=False), plan, SIDED)([logits[:1]], labels[:1])
    loss = make_loss(settings, plan, SIDED)([logits[:1]], labels[:1])
    assert 0 < loss < dice  # log cosh x is below x
    assert torch.autograd.grad(loss, logits)[0].abs().max() > 0
