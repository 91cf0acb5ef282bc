import re

import pytest
import torch

from helpers import nets
from helpers.plans import SIDED, tiny_model, tiny_network, tiny_plan
from voxelry.core.plan import Region
from voxelry.errors import ConfigError, ModelError
from voxelry.networks.build import build_network
from voxelry.networks.weights import load_model_folder, load_models, network_of, save_ensemble, save_model

CPU = torch.device("cpu")


def plan_of(name, dimensions=3, options=None, **changes):
    network = tiny_network(dimensions, name=f"helpers.nets:{name}", options=options or {}, deep_supervision=2)
    return tiny_plan(dimensions, network=network, **changes)


@pytest.mark.parametrize(("name", "heads"), [("Plain", 1), ("Dictionary", 1), ("Stacked", 2), ("Listed", 3), ("Deciding", 1)])
def test_whatever_a_network_returns_becomes_a_list(name, heads):
    plan = plan_of(name, channels=("a", "b"))
    network = build_network(plan, 3)
    found = network(torch.randn(2, 2, 8, 8, 8))
    assert len(found) == heads
    assert found[0].shape == (2, 3, 8, 8, 8)
    sum(head.sum() for head in found).backward()
    assert network.body.first.weight.grad is not None
    assert len(network.eval()(torch.randn(1, 2, 8, 8, 8))) == 1


def test_pictures_and_factories():
    assert build_network(plan_of("factory", 2, {"width": 6}), 3)(torch.randn(2, 1, 8, 8))[0].shape == (2, 3, 8, 8)
    assert nets.RAN[-1] == 6


def test_slices_and_regions_hold_for_any_network():
    regions = (Region(name="all", labels=("a", "b"), label="a"), Region(name="b", labels=("b",), label="b"))
    flat = {"strides": ((1, 1, 1), (1, 2, 2), (1, 2, 2)), "kernels": ((1, 3, 3),) * 3}
    network = tiny_network(3, name="helpers.nets:Plain", **flat)
    plan = tiny_plan(network=network, patch_size=(1, 8, 8), slice_axis=0, regions=regions)
    made = build_network(plan, 3)
    assert made.body.last.out_channels == 2
    assert made(torch.randn(2, 1, 1, 8, 8))[0].shape == (2, 3, 1, 8, 8)


def test_a_class_gets_what_it_demands_and_says_what_is_missing():
    plan = plan_of("Demanding", options={"secret": 7})
    assert build_network(plan, 4).body.seen == (plan.network.features, plan.network.strides, plan.network.kernels, 7)
    with pytest.raises(ConfigError, match=r"nets:Demanding' requires secret\. Give these arguments"):
        build_network(plan_of("Demanding"), 4)


def test_monais_own_class_by_its_path():
    options = {"channels": [4, 8], "strides": [2]}
    plan = tiny_plan(network=tiny_network(3, name="monai.networks.nets:AttentionUnet", options=options))
    assert build_network(plan, 3)(torch.randn(2, 1, 8, 8, 8))[0].shape == (2, 3, 8, 8, 8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Coarse", r"gives logits of shape \(2, 3, 8, 8, 4\) as head 0 of 1 .* of shape \(2, 3, 8, 8, 8\)"),
        ("CoarseFirst", r"gives logits of shape \(2, 3, 2, 2, 2\) as head 0 of 3"),
        ("Wide", r"gives logits of shape \(2, 4, 8, 8, 8\) .* and 3 classes"),
        ("Words", r"network 'helpers.nets:Words': the network returns str\. Return logits"),
        ("Failing", r"cannot take patches of shape \(2, 1, 8, 8, 8\) \(KeyError: .*own mistake"),
        ("nothing", r"is a NoneType, not a torch.nn.Module"),
        ("Plane", r"'helpers.nets' has no 'Plane'\. Did you mean 'Plain'\?"),
        ("NUMBER", r"has no 'NUMBER'"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_fit_is_refused_before_training(name, message):
    with pytest.raises(ConfigError, match=message):
        build_network(plan_of(name), 3)


def test_a_module_that_is_not_there():
    network = tiny_network(3, name="not_there.at_all:Net")
    with pytest.raises(ConfigError, match=r"'not_there.at_all' cannot be imported .*PYTHONPATH"):
        build_network(tiny_plan(network=network), 3)


def test_a_module_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "my_own_network.py").write_text("from helpers.nets import Plain as Net\n")
    monkeypatch.chdir(tmp_path)
    network = tiny_network(3, name="my_own_network:Net")
    assert build_network(tiny_plan(network=network), 3)(torch.randn(2, 1, 8, 8, 8))[0].shape == (2, 3, 8, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widht": 3}, r"takes no 'widht'\. Did you mean 'width'"),
        ({"in_channels": 3}, r"'in_channels' follows from the data"),
        ({"width": "x"}, r"cannot be built with .*width='x'"),
    ],
)  # fmt: skip
def test_an_option_that_does_not_fit_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_network(plan_of("Plain", options=options), 3)


@pytest.fixture
def saved(tmp_path):
    return save_model(tiny_model(plan_of("Plain")), tmp_path / "model")


def test_a_stored_model_runs_no_code_that_was_not_named(saved):
    del nets.RAN[:]
    message = r"the network is 'helpers.nets:Plain', which is code outside .* --network helpers.nets:Plain"
    with pytest.raises(ModelError, match=message):
        load_model_folder(saved.path)
    with pytest.raises(ModelError, match=r"'helpers.nets:Plain', not 'helpers.nets:Wide'"):
        load_model_folder(saved.path, "helpers.nets:Wide")
    folder = saved.path.parent / "ensemble"
    save_ensemble([saved, saved], folder)
    with pytest.raises(ModelError, match=re.escape(str(folder))):
        load_models(folder)
    assert nets.RAN == []


def test_a_stored_model_whose_code_was_named(saved):
    (loaded,) = load_models(saved.path, "helpers.nets:Plain")
    assert network_of(loaded, CPU)(torch.randn(1, 1, 8, 8, 8))[0].shape == (1, len(SIDED) + 1, 8, 8, 8)
