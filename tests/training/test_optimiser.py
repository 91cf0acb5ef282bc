import numpy as np
import pytest
import torch
from torch import nn

from voxelry.recipes.settings import OptimiserSettings
from voxelry.training.optimiser import learning_rate, make_optimiser


def steps(optimiser, weight, count=5):
    """Weights on their way down a bowl."""
    for _ in range(count):
        optimiser.zero_grad()
        (weight**2).sum().backward()
        optimiser.step()
    return weight.detach().clone()


def network():
    torch.manual_seed(0)
    return nn.Linear(4, 3, bias=False)


@pytest.mark.parametrize(
    ("settings", "oracle"),
    [
        ({"name": "adamw"}, lambda w: torch.optim.AdamW(w, lr=2e-3, weight_decay=1e-4)),
        ({"name": "sgd"}, lambda w: torch.optim.SGD(w, lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)),
        ({"name": "sgd", "momentum": 0.0}, lambda w: torch.optim.SGD(w, lr=1e-2, weight_decay=3e-5)),
        ({"learning_rate": 0.1, "weight_decay": 0.0}, lambda w: torch.optim.AdamW(w, lr=0.1, weight_decay=0.0)),
    ],
)
def test_the_optimisers_are_torchs_with_the_recipes_numbers(settings, oracle):
    ours, theirs = network(), network()
    got = steps(make_optimiser(ours, OptimiserSettings(**settings)), ours.weight)
    torch.testing.assert_close(got, steps(oracle(theirs.parameters()), theirs.weight))


def test_frozen_weights_are_left_alone():
    frozen = nn.Sequential(network(), network())
    frozen[0].weight.requires_grad_(False)
    assert make_optimiser(frozen, OptimiserSettings()).param_groups[0]["params"] == [frozen[1].weight]


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_schedules_follow_torchs(schedule):
    total = 50
    settings = OptimiserSettings(schedule=schedule, learning_rate=0.3, power=0.9)
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    scheduler = {
        "poly": lambda: torch.optim.lr_scheduler.PolynomialLR(optimiser, total, 0.9),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total),
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0, 1),
    }[schedule]()
    expected = []
    for _ in range(total):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    got = [learning_rate(settings, step, 0, step / total) for step in range(total)]
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_warm_up_is_a_line_to_the_highest_rate():
    settings = OptimiserSettings(learning_rate=1.0)
    assert [learning_rate(settings, step, 4, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
