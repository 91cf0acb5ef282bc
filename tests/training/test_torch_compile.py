import logging
import warnings

import pytest
import torch

from helpers.plans import tiny_plan
from helpers.training_cases import loop
from voxelry.inference import backends
from voxelry.inference.backends import has_compiler
from voxelry.networks.build import build_network
from voxelry.training.torch_compile import CompiledNetwork

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def network():
    torch.manual_seed(0)
    return build_network(tiny_plan(3), 4)


@pytest.mark.parametrize(
    ("wish", "device", "compiler", "triton", "wanted"),
    [
        ("auto", GPU, "/usr/bin/cc", True, True),
        ("auto", GPU, None, True, False),
        ("auto", GPU, "/usr/bin/cc", False, False),
        ("auto", CPU, "/usr/bin/cc", True, False),
        ("on", CPU, None, False, True),
        ("off", GPU, "/usr/bin/cc", True, False),
    ],
)
def test_who_is_compiled(monkeypatch, wish, device, compiler, triton, wanted):
    monkeypatch.setattr(backends.shutil, "which", lambda _: compiler)
    monkeypatch.setattr(backends, "is_installed", lambda _: triton)
    assert has_compiler(device) == (compiler is not None and (triton or device is CPU))
    assert CompiledNetwork(network(), wish, device).wanted == wanted


def test_what_cannot_be_compiled_trains_as_it_is(monkeypatch, caplog, tmp_path):
    expected = loop(tmp_path / "a", steps=3, compile="off").run(lambda _: None)

    def broken(network, **_):
        def call(image):
            network(image)[0].sum().backward()  # gradients from half an attempt must not stay
            raise RuntimeError("no compiler\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with caplog.at_level(logging.WARNING):
        got = loop(tmp_path / "b", steps=3, compile="on").run(lambda _: None)
    assert [record.message for record in caplog.records] == [
        "the network could not be compiled and trains in eager mode (no compiler)"
    ]
    assert [m.loss for m in got.history] == [m.loss for m in expected.history]


def test_an_error_of_a_network_that_is_compiled_is_an_error(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    compiled = CompiledNetwork(network(), "on", CPU)
    compiled.run(lambda body: body(torch.zeros(1, 1, 8, 8, 8))[0])
    with pytest.raises(ZeroDivisionError):
        compiled.run(lambda body: torch.tensor(1 / 0))


class Compiled(torch.nn.Module):
    """Stands for a compiled network: its logits, or its gradients alone, are multiplied."""

    def __init__(self, network, logits=1.0, slopes=1.0):
        super().__init__()
        self.inner, self.logits, self.slopes = [network], logits, slopes

    def forward(self, image):
        heads = [head * self.logits for head in self.inner[0](image)]
        return [head * self.slopes + (head * (1 - self.slopes)).detach() for head in heads]


@pytest.mark.parametrize(
    ("change", "works"), [({}, True), ({"slopes": 1.02}, True), ({"slopes": 1.5}, False), ({"logits": -1.0}, False),
                          ({"slopes": float("nan")}, False)],
)  # fmt: skip
def test_a_compiled_network_with_other_gradients_is_not_used(monkeypatch, caplog, tmp_path, change, works):
    expected = loop(tmp_path / "a", steps=2, compile="off").run(lambda _: None)
    monkeypatch.setattr(torch, "compile", lambda network, **_: Compiled(network, **change))
    run = loop(tmp_path / "b", steps=2, compile="on")
    got = run.run(lambda _: None)
    assert run.compiled.works is works
    assert (
        [record.message for record in caplog.records] == []
        if works
        else ["the compiled network has other gradients than the plain one and trains in eager mode"]
    )
    if not works or not change:
        assert [m.loss for m in got.history] == [m.loss for m in expected.history]


def test_the_plain_trial_leaves_nothing_behind(monkeypatch):
    """Neither running means nor random draws; a network that draws is not compared."""
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)

    def body(drop):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Dropout(drop)).train()

    def passes(forward):
        loss = forward(torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)).square().mean()
        loss.backward()
        return loss.detach()

    for drop in (0.0, 0.5):
        results = []
        for mode in ("off", "on"):
            one = body(drop)
            compiled = CompiledNetwork(one, mode, CPU)
            losses = [compiled.run(passes) for _ in range(2)]
            results.append([*losses, *(weight.grad for weight in one.parameters()), *one.buffers(), torch.get_rng_state()])
        assert compiled.works
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.slow
def test_a_compiled_network_trains_as_an_uncompiled_one(tmp_path):
    if not has_compiler(CPU):
        pytest.skip("no C compiler")
    expected = loop(tmp_path / "a", 2, steps=4, compile="off").run(lambda _: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
        run = loop(tmp_path / "b", 2, steps=4, compile="on")
        got = run.run(lambda _: None)
    assert run.compiled.works
    assert run.network.state_dict().keys() == torch.load(tmp_path / "a" / "checkpoint.pt")["network"].keys()
    assert [m.loss for m in got.history] == pytest.approx([m.loss for m in expected.history], rel=1e-4)
