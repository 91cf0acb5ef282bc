import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.plans import tiny_network, tiny_plan
from voxelry.base.device import compute_dtype
from voxelry.errors import ConfigError
from voxelry.networks import cost as module
from voxelry.networks.build import build_network
from voxelry.networks.cost import network_cost, training_dtype
from voxelry.networks.shape_inference import infer_shapes

STEP = Path(__file__).parents[1] / "helpers" / "step.py"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read where Linux keeps it")
@pytest.mark.parametrize(
    ("name", "dimensions", "edge", "dtype"),
    [("dynunet", 3, 48, "float32"), ("dynunet", 3, 48, "bfloat16"), ("resenc", 2, 256, "float32"), ("mednext", 3, 32, "float32")],
)  # fmt: skip
def test_a_step_takes_what_was_foreseen(name, dimensions, edge, dtype):
    if dtype == "bfloat16" and compute_dtype(torch.device("cpu"), "auto") == torch.float32:
        pytest.skip("this processor has no instructions for bfloat16, which nobody computes in it then")
    answer = subprocess.run(
        [sys.executable, STEP, name, str(dimensions), str(edge), dtype], capture_output=True, text=True, check=True, timeout=240
    )
    found = json.loads(answer.stdout)
    assert found["foreseen"] == pytest.approx(found["peak"], rel=0.35)


def test_numbers_of_a_network():
    plan = tiny_plan()
    network = build_network(plan, 3)
    count = sum(weight.numel() for weight in network.parameters())
    cost = network_cost(network, plan, 3)
    parts = dict(cost.footprint.parts)
    assert (cost.parameters, parts["weights"], parts["weight gradients"]) == (count, 4 * count, 4 * count)
    assert parts["optimiser state"] == 8 * count
    assert parts["activations"] > parts["loss"] > 0
    assert cost.total == sum(parts.values())
    assert network_cost(network, plan, 3, moments=1).footprint["optimiser state"] == 4 * count


def activation_bytes(cost):
    return sum(cost.footprint[name] for name in ("activations", "loss", "layer gradients"))


def test_activations_grow_with_the_batch_and_the_patch_and_shrink_with_the_type():
    plan = tiny_plan(patch_size=(16, 16, 16))
    network = build_network(plan, 3)
    usual = activation_bytes(network_cost(network, plan, 3, batch=2))
    assert activation_bytes(network_cost(network, plan, 3, batch=8)) == pytest.approx(4 * usual, rel=0.02)
    large = plan.model_copy(update={"patch_size": (32, 32, 32)})
    assert activation_bytes(network_cost(network, large, 3, batch=2)) == pytest.approx(8 * usual, rel=0.02)
    assert activation_bytes(network_cost(network, plan, 3, batch=2, dtype=torch.bfloat16)) < 0.75 * usual


def test_what_is_kept_of_a_network_by_hand():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(1, 10, 1), torch.nn.Conv2d(10, 4, 1)

        def forward(self, x):
            return [self.second(torch.relu(self.first(x)))]

    inference = infer_shapes(Two(), (2, 1, 32, 32))
    assert inference.heads == ((2, 4, 32, 32),)
    assert (
        inference.saved_bytes == 4 * 2 * (1 + 10) * 32 * 32
    )  # the input of each convolution; a relu keeps its output, which is the second's
    assert inference.largest_bytes == 4 * 2 * 10 * 32 * 32


def test_nothing_is_computed_and_nothing_changes():
    plan = tiny_plan(patch_size=(512, 512, 512), network=tiny_network(3, (32, 64, 64)))
    network = build_network(plan, 3).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    assert activation_bytes(network_cost(network, plan, 3, batch=64)) > 1e12
    assert not network.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


def test_a_patch_too_small_to_be_trained_on():
    plan = tiny_plan(network=tiny_network(3, (4, 8, 8, 8)), batch_size=1)
    with pytest.raises(ConfigError, match=r"'dynunet' cannot be trained on patches of \(8, 8, 8\) .*Enlarge plan.patch_size"):
        network_cost(build_network(plan, 3), plan, 3)


def deep_plan(dimensions=3, edge=16, stages=4, kernel=3, first=None, **changes):
    """A plan whose last stage is `edge` / 2^(stages - 1) voxels wide."""
    features = (4,) * stages
    network = tiny_network(dimensions, features, kernels=((kernel,) * dimensions,) * stages)
    patch = (edge if first is None else first, *(edge,) * (dimensions - 1))
    return tiny_plan(dimensions, patch_size=patch, network=network, **changes)


@pytest.mark.parametrize(
    ("plan", "dtype"),
    [
        (deep_plan(edge=16), torch.float32),  # 2 voxels in the last stage
        (deep_plan(edge=24), torch.bfloat16),  # 3
        (deep_plan(edge=16, stages=3), torch.bfloat16),  # 4
        (deep_plan(edge=32, first=16), torch.float32),  # 2 along the first axis alone
        (deep_plan(edge=16, first=32), torch.float32),  # 2 along the others
        (deep_plan(edge=16, stages=3, kernel=5), torch.float32),  # 4 under a kernel of 5
        (deep_plan(edge=24, stages=3, kernel=5), torch.bfloat16),
        (deep_plan(2, edge=16), torch.float32),
        (deep_plan(2, edge=32), torch.bfloat16),
        (
            tiny_plan(
                patch_size=(2, 16, 16),
                network=tiny_network(
                    3, (4, 8, 8), strides=((1, 1, 1), (1, 2, 2), (1, 2, 2)), kernels=((1, 3, 3), (1, 3, 3), (1, 3, 3))
                ),
            ),
            torch.bfloat16,
        ),  # two slices, which no kernel joins
        (
            tiny_plan(
                patch_size=(1, 16, 16),
                slice_axis=0,
                configuration="2d",
                network=tiny_network(
                    3, (4, 8, 8), strides=((1, 1, 1), (1, 2, 2), (1, 2, 2)), kernels=((1, 3, 3), (1, 3, 3), (1, 3, 3))
                ),
            ),
            torch.bfloat16,
        ),  # single slices: the network is of two axes
    ],
)
def test_a_network_with_a_stage_narrower_than_its_kernels_is_computed_in_float32(monkeypatch, plan, dtype):
    monkeypatch.setattr(module, "compute_dtype", lambda *_: torch.bfloat16)
    network = build_network(plan, 4)
    assert training_dtype(network, plan, 4, torch.device("cpu"), "auto") is dtype
    assert training_dtype(network, plan, 4, torch.device("cuda"), "auto") is torch.bfloat16  # cuDNN is not oneDNN


@pytest.mark.parametrize(
    ("layer", "size", "narrow"),
    [
        (torch.nn.Conv3d(1, 2, 3, padding=1), (2, 9, 9), True),
        (torch.nn.Conv3d(1, 2, 3, padding=1), (9, 9, 2), True),
        (torch.nn.Conv3d(1, 2, 3, padding="same"), (3, 3, 3), False),
        (torch.nn.Conv3d(1, 2, 3, padding=2, dilation=2), (4, 9, 9), True),
        (torch.nn.Conv3d(1, 2, 3, padding=2, dilation=2), (5, 9, 9), False),
        (torch.nn.Conv3d(1, 2, (1, 3, 3), padding=(0, 1, 1)), (1, 9, 9), False),
        (torch.nn.Conv2d(1, 2, 7, padding=3), (6, 9), True),
        (torch.nn.ConvTranspose3d(1, 2, 2, stride=2), (1, 1, 1), False),
    ],
)
def test_narrow_inputs_of_a_layer(layer, size, narrow):
    assert infer_shapes(torch.nn.Sequential(layer), (2, 1, *size)).has_narrow_inputs is narrow


def test_narrow_inputs_of_functions_are_noticed_too():
    class Functional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2, 1, 3, 3, 3))

        def forward(self, x):
            return [torch.nn.functional.conv3d(input=x, weight=self.weight, padding=1)]

    assert infer_shapes(Functional(), (2, 1, 2, 8, 8)).has_narrow_inputs
    assert not infer_shapes(Functional(), (2, 1, 3, 8, 8)).has_narrow_inputs
