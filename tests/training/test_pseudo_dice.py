import pytest
import torch
from torch import nn

from helpers.plans import SIDED, one_hot, tiny_network, tiny_plan
from voxelry.core.label_combinations import LabelCombinations
from voxelry.core.labels import Label, LabelTable
from voxelry.core.plan import Region
from voxelry.networks.classes import make_regions
from voxelry.training.pseudo_dice import BATCHES, PseudoDice

CPU = torch.device("cpu")


class Answers(nn.Module):
    """A network that has been told the answer."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, number_BC):
        return [self.logits[int(number_BC.flatten()[0])]]


def batches(seed, labels=3):
    random = torch.Generator().manual_seed(seed)
    return [torch.randint(0, labels + 1, (2, 5, 6), generator=random) for _ in range(BATCHES)]


def sampler(truth):
    return lambda number: (torch.full((2, 1, 5, 6), float(number)), truth[number])


def test_it_is_dice_over_all_patches_together():
    truth, found = batches(0), batches(1)
    truth[2][0, 0] = -1  # counts nowhere
    logits = [one_hot(one.numpy(), 4).movedim(0, 1) for one in found]
    got = PseudoDice(sampler(truth), tiny_plan(2), SIDED)(Answers(logits), CPU, torch.float32)
    known = torch.cat([one.flatten() for one in truth]) >= 0
    all_truth, all_found = (torch.cat([one.flatten() for one in many])[known] for many in (truth, found))
    for label, name in enumerate(SIDED.names, start=1):
        one, other = all_truth == label, all_found == label
        assert got[name] == pytest.approx(2 * (one & other).sum().item() / (one.sum() + other.sum()).item())


def test_a_label_in_no_patch_has_no_score():
    truth = [torch.ones(2, 5, 6, dtype=torch.int64)] * BATCHES
    logits = [one_hot(one.numpy(), 4).movedim(0, 1) for one in truth]
    got = PseudoDice(sampler(truth), tiny_plan(2), SIDED)(Answers(logits), CPU, torch.float32)
    assert got == {"left kidney": 1.0, "right kidney": None, "spine": None}


def test_regions_are_scored_as_regions():
    regions = (
        Region(name="all", labels=("left kidney", "right kidney", "spine"), label="spine"),
        Region(name="kidneys", labels=("left kidney", "right kidney"), label="right kidney"),
        Region(name="left", labels=("left kidney",), label="left kidney"),
    )
    plan = tiny_plan(2, regions=regions, network=tiny_network(2))
    truth = batches(3)
    logits = []
    for one in truth:  # every voxel of a label is also in the regions around it
        within = torch.stack([one * 0, one > 0, (one == 1) | (one == 2), one == 1], dim=1).float()
        logits.append(2 * within - 1)
    got = PseudoDice(sampler(truth), plan, SIDED)(Answers(logits), CPU, torch.float32)
    assert got == {"all": 1.0, "kidneys": 1.0, "left": 1.0}
    for one in logits:
        one[:, 3] = -1.0  # left kidneys are taken for right ones
    got = PseudoDice(sampler(truth), plan, SIDED)(Answers(logits), CPU, torch.float32)
    assert got == {"all": 1.0, "kidneys": 1.0, "left": 0.0}


def test_labels_on_layers_are_scored_each_by_itself():
    table = LabelTable(labels=(Label(value=1, name="heart", layer=1), Label(value=1, name="left"), Label(value=2, name="right")))
    plan = tiny_plan(2, regions=make_regions({}, table), network=tiny_network(2))
    combinations = LabelCombinations(table)
    truth, found = batches(4, combinations.count - 1), batches(5, combinations.count - 1)
    truth[1][1, 2] = -1
    on_layers = torch.from_numpy(combinations.labels)
    logits = []
    for one in found:
        left, heart = on_layers[one].unbind(-1)
        inside = [left == 2, left == 3, heart == 1]  # in the order of the plan's regions
        logits.append(2 * torch.stack([one * 0, *(plane.long() for plane in inside)], dim=1).float() - 1)
    got = PseudoDice(sampler(truth), plan, table)(Answers(logits), CPU, torch.float32)
    known = torch.cat([one.flatten() for one in truth]) >= 0
    all_truth, all_found = (torch.cat([one.flatten() for one in many])[known] for many in (truth, found))
    for index, name in enumerate(table.names, start=1):
        one, other = ((on_layers[numbers] == index).any(-1) for numbers in (all_truth, all_found))
        assert got[name] == pytest.approx(2 * (one & other).sum().item() / (one.sum() + other.sum()).item())
