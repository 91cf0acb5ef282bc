"""Backends: every one computes what PyTorch does."""

import sys
import threading
import time
from functools import cache

import pytest
import torch
from torch import nn

import voxelry as vx
from voxelry.base.extras import extra
from voxelry.core.plan import NetworkPlan, Normalisation, Plan
from voxelry.errors import MissingExtraError, UsageError
from voxelry.inference import backend_selection, backends
from voxelry.inference.backend_selection import AGREEMENT, MemberForwards, check_logits, select_backend
from voxelry.inference.backends import BACKENDS, check_backend, has_compiler, installed_backends
from voxelry.inference.forward import Forward, optimised_for_cpu
from voxelry.networks.build import build_network

CPU = torch.device("cpu")


def plan(dimensions: int) -> Plan:
    three = ((1,) * dimensions, (2,) * dimensions, (2,) * dimensions)
    return Plan(
        dimensions=dimensions,
        channels=("x",),
        normalisation=(Normalisation(scheme="image"),),
        patch_size=(16,) * dimensions,
        batch_size=2,
        network=NetworkPlan(features=(4, 8, 8), strides=three, kernels=((3,) * dimensions,) * 3),
    )


def made(dimensions: int) -> nn.Module:
    torch.manual_seed(0)
    return build_network(plan(dimensions), 3).eval()


@pytest.fixture
def network() -> nn.Module:
    return made(2)


@cache
def built(name: str, dimensions: int) -> Forward:
    """A backend of `made`, compiled once for all tests of this file."""
    return BACKENDS[name](made(dimensions), CPU, torch.float32)


def patches(network: nn.Module, count: int) -> torch.Tensor:
    dimensions = network.body.spatial_dims
    return torch.randn(count, 1, *(16,) * dimensions, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_backend_gives_the_logits_of_pytorch(dimensions, name):
    pytest.importorskip(name)
    network = made(dimensions)
    x_BC = patches(network, 3)
    wanted = BACKENDS["torch"](network, CPU, torch.float32)(x_BC)
    forward = built(name, dimensions)
    torch.testing.assert_close(forward(x_BC), wanted, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(forward(x_BC[:1]), wanted[:1], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_quick_form_gives_the_same_logits_with_the_same_weights(dimensions):
    network = made(dimensions)
    for norm in (module for module in network.modules() if hasattr(module, "num_features")):
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.uniform_(norm.bias, -1, 1)
    x_BC = patches(network, 2)
    with torch.inference_mode():
        wanted = network(x_BC)[0].clone()
        optimised = optimised_for_cpu(network)
        torch.testing.assert_close(optimised(x_BC)[0], wanted, atol=1e-4, rtol=1e-4)
    assert {id(tensor) for tensor in optimised.parameters()} == {id(tensor) for tensor in network.parameters()}
    assert not any(isinstance(module, nn.InstanceNorm2d | nn.InstanceNorm3d) for module in optimised.modules())
    assert any(isinstance(module, nn.InstanceNorm2d | nn.InstanceNorm3d) for module in network.modules())


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")
def test_no_convolution_of_a_patch_is_left_to_the_slow_code_of_pytorch():
    network = made(3)
    x_BC = patches(network, 1)
    slow = []
    for forward in (network, built("torch", 3)):
        with torch.inference_mode(), torch.profiler.profile() as profile:
            forward(x_BC)
        slow.append(any("slow_conv3d" in event.key for event in profile.key_averages()))
    assert slow == [True, False]


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": (0, 2, 1), "stride": (1, 2, 2), "bias": False},
        {"padding": 2, "dilation": 2, "groups": 2},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "reflect"},
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_quick_form_has_the_convolutions_of_pytorch(options, batch):
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv3d(4, 6, 3, **options), nn.Conv3d(6, 2, 1)).eval()
    x_BC = torch.randn(batch, 4, 9, 8, 7)
    optimised = optimised_for_cpu(layer)
    with torch.inference_mode():
        torch.testing.assert_close(optimised(x_BC), layer(x_BC), atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(optimised(x_BC), layer(x_BC), atol=0.05, rtol=0.05)
            assert optimised(x_BC).dtype == torch.bfloat16
    assert type(layer[0]) is nn.Conv3d


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(CPU), reason="torch.compile needs a C++ compiler")
def test_compiled_gives_the_logits_of_pytorch_in_3d():
    x_BC = patches(made(3), 2)
    torch.testing.assert_close(built("compile", 3)(x_BC), built("torch", 3)(x_BC), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(CPU), reason="torch.compile needs a C++ compiler")
def test_compiled_gives_the_logits_of_pytorch(network):
    x_BC = patches(network, 3)
    wanted = BACKENDS["torch"](network, CPU, torch.float32)(x_BC)
    torch.testing.assert_close(BACKENDS["compile"](network, CPU, torch.float32)(x_BC), wanted, atol=1e-4, rtol=1e-3)


def test_without_a_compiler_the_network_runs_as_it_is_and_says_so(network, monkeypatch, caplog):
    monkeypatch.setattr(backends.shutil, "which", lambda _: None)
    forward = BACKENDS["compile"](network, CPU, torch.float32)
    x_BC = patches(network, 1)
    assert torch.equal(forward(x_BC), BACKENDS["torch"](network, CPU, torch.float32)(x_BC))
    assert "needs a C++ compiler" in caplog.text
    assert "compile" not in installed_backends(CPU)


def test_what_a_caller_keeps_is_not_overwritten_by_the_next_patch(network):
    pytest.importorskip("openvino")
    forward = built("openvino", 2)
    x_BC = patches(network, 2)
    first = forward(x_BC[:1])
    kept = first.clone()
    forward(x_BC[1:])
    assert torch.equal(first, kept)


def test_threads_share_a_built_backend(network):
    pytest.importorskip("openvino")
    forward = built("openvino", 2)
    x_BC = patches(network, 4)
    wanted = forward(x_BC)
    found: dict[int, torch.Tensor] = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: forward(x_BC[n : n + 1])})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(torch.cat([found[n] for n in range(4)]), wanted)


@pytest.mark.parametrize(("scale", "noise"), [(1.3, 0.0), (1.0, 0.5), (float("nan"), 0.0)])
def test_a_named_backend_with_other_logits_is_refused(network, monkeypatch, scale, noise):
    def bent(network, device, dtype):
        plain = BACKENDS["torch"](network, device, dtype)
        return lambda x_BC: scale * plain(x_BC) + noise

    monkeypatch.setattr(backend_selection, "BACKENDS", BACKENDS | {"openvino": bent})
    members = MemberForwards([network], CPU, torch.float32, "openvino")
    with pytest.raises(UsageError, match=r"'openvino' gives other logits than PyTorch .* Use the backend 'torch', or 'auto'"):
        members.forwards(lambda: patches(network, 1), 1)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_rounding_to_bfloat16_is_no_other_logits(dimensions):
    network = made(dimensions)
    half = BACKENDS["torch"](network, CPU, torch.bfloat16)
    check_logits("torch", half, BACKENDS["torch"](network, CPU, torch.float32), patches(network, 1))


def test_a_missing_backend_names_the_extra(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"voxelry\[accelerate\]"):
        BACKENDS["openvino"](network, CPU, torch.float32)
    with pytest.raises(MissingExtraError, match="openvino"):
        extra("openvino", "this test")


def test_openvino_reports_nothing_to_its_makers(network, monkeypatch):
    convert = pytest.importorskip("openvino.tools.ovc.convert_impl")

    def report():
        raise AssertionError("OpenVINO's convert_model reports each call")

    monkeypatch.setattr(convert, "init_ovc_telemetry", report)
    assert BACKENDS["openvino"](network, CPU, torch.float32)(patches(network, 1)).shape == (1, 3, 16, 16)


def test_cpu_backends_refuse_another_device(network):
    for name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
        with pytest.raises(UsageError, match="runs on the CPU"):
            BACKENDS[name](network, torch.device("meta"), torch.float32)


def test_an_unknown_backend_is_refused_with_the_nearest():
    check_backend("auto")
    with pytest.raises(UsageError, match="openvino"):
        check_backend("openvin")


class Rigged:
    """A backend of known speed whose winners differ from the network's in a known share of voxels."""

    def __init__(self, network, seconds, wrong=0.0):
        self.network, self.seconds, self.wrong = network, seconds, wrong
        self.patches, self.logits = None, None

    @torch.inference_mode()
    def __call__(self, patches_BC):
        if self.patches is not patches_BC:  # so that only the sleep is timed, whatever else the machine does
            self.patches, self.logits = patches_BC, self.network(patches_BC)[0]
        logits = self.logits
        turned = logits.flatten(2).clone()
        count = int(self.wrong * turned.shape[2])
        turned[:, :, :count] *= -1
        time.sleep(self.seconds)
        return turned.reshape(logits.shape)


@pytest.fixture
def rigged(network, monkeypatch):
    """Backends of known speed and agreement."""

    def rig(**made):
        monkeypatch.setattr(backend_selection, "BACKENDS", {name: (lambda *_, one=one: one) for name, one in made.items()})
        monkeypatch.setattr(backend_selection, "installed_backends", lambda _: tuple(made))
        monkeypatch.setattr(backend_selection, "TRIAL_SECONDS", dict.fromkeys(made, 0.01))
        return select_backend(network, patches(network, 1), CPU, torch.float32, passes=1000)

    return rig


def test_the_fastest_that_agrees_is_chosen(network, rigged):
    chosen, forward = rigged(torch=Rigged(network, 0.06), compile=Rigged(network, 0.001), openvino=Rigged(network, 0.03))
    assert chosen.name == "compile"
    assert chosen.seconds["compile"] < chosen.seconds["openvino"] < chosen.seconds["torch"]
    assert isinstance(forward, Rigged)
    assert "compile" in chosen.reason


def test_a_fast_backend_that_disagrees_is_not(network, rigged):
    chosen, _ = rigged(torch=Rigged(network, 0.06), compile=Rigged(network, 0.001, wrong=0.2), openvino=Rigged(network, 0.03))
    assert chosen.name == "openvino"
    assert chosen.agreement["compile"] < AGREEMENT <= chosen.agreement["openvino"]


def test_a_backend_that_fails_is_passed_over(network, rigged):
    def fails(_):
        raise RuntimeError("unsupported")

    chosen, _ = rigged(torch=Rigged(network, 0.0), compile=fails)
    assert chosen.name == "torch"


def test_nothing_is_built_for_a_few_patches(network):
    chosen, _ = select_backend(network, patches(network, 1), CPU, torch.float32, passes=2)
    assert (chosen.name, list(chosen.seconds)) == ("torch", ["torch"])
    assert len(installed_backends(CPU)) == 1 or "not tried" in chosen.reason


@pytest.mark.parametrize("backend", ["auto", "openvino", "onnxruntime"])
def test_a_predictor_keeps_to_its_backend_and_says_which(backend, torso, torso_model):
    if backend != "auto":
        pytest.importorskip(backend)
    scan = vx.read(min(path.parent for path in torso.rglob("*.dcm")))
    plain = vx.load_model(torso_model, device="cpu", mixed_precision="off")
    predictor = vx.load_model(torso_model, device="cpu", mixed_precision="off", backend=backend)
    wanted = plain.predict(scan).labels.array
    assert (predictor.predict(scan).labels.array == wanted).mean() >= AGREEMENT
    first = predictor.segmenter.ensembles[0].members.forwards(lambda: pytest.fail("chosen again"), 1)
    predictor.predict(scan)
    assert predictor.segmenter.ensembles[0].members.forwards(lambda: pytest.fail("chosen again"), 1) is first
    assert predictor.description.startswith("backend torch" if backend == "auto" else f"backend {backend}")


def test_a_predictor_refuses_an_unknown_backend(torso_model):
    with pytest.raises(UsageError, match="no backend 'opnvino'"):
        vx.load_model(torso_model, backend="opnvino")
