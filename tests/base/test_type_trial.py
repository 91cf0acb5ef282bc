"""The trial of half types: right convolutions pass, and each way of being wrong is noticed."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode

from voxelry.base import type_trial
from voxelry.base.type_trial import is_sound

CPU = torch.device("cpu")


class _Bent(torch.autograd.Function):
    """A tensor as it is, whose gradient is changed on the way back."""

    @staticmethod
    def forward(ctx, tensor, bend):
        ctx.bend = bend
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, slope):
        return ctx.bend(slope), None


class Fault(TorchFunctionMode):
    """Convolutions of some dimensions in autocast with changed values: of their output, or of a gradient."""

    def __init__(self, axes, place, bend):
        super().__init__()
        self.function, self.place, self.bend = {2: torch.conv2d, 3: torch.conv3d}[axes], place, bend

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not self.function or not torch.is_autocast_enabled("cpu"):
            return function(*args, **(kwargs or {}))
        image, weight, *rest = args
        if self.place == "image":
            image = _Bent.apply(image, self.bend)
        if self.place == "weight":
            weight = _Bent.apply(weight, self.bend)
        output = function(image, weight, *rest, **(kwargs or {}))
        return self.bend(output) if self.place == "output" else output


_calls = itertools.count()


def unsteady(slope):
    """Close enough, and another at each call."""
    return slope * (1 + 0.01 * (next(_calls) % 2))


def poisoned(slope):
    slope = slope.clone()
    slope.flatten()[3] = float("nan")
    return slope


@pytest.fixture
def afresh():
    """The trial without what it remembers."""
    is_sound.cache_clear()
    yield
    is_sound.cache_clear()


@pytest.mark.usefixtures("afresh")
def test_bfloat16_passes_here_and_is_tried_once(monkeypatch, caplog):
    random = torch.get_rng_state()
    with torch.inference_mode():  # whatever the caller is in
        assert is_sound(CPU, torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), random)
    monkeypatch.setattr(type_trial, "_passes", lambda *_: pytest.fail("tried again"))
    assert is_sound(CPU, torch.bfloat16)
    assert not caplog.records


@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("place", ["output", "image", "weight"])
@pytest.mark.parametrize("bend", [lambda slope: slope * 1.05, unsteady, poisoned], ids=["wrong", "unsteady", "nan"])
def test_a_fault_is_noticed_and_said_once(axes, place, bend, caplog):
    with Fault(axes, place, bend):
        assert not is_sound(CPU, torch.bfloat16)
        assert not is_sound(CPU, torch.bfloat16)
    assert [record.message for record in caplog.records] == [
        "bfloat16 gives wrong or unsteady gradients on this machine: float32 is used"
    ]


EMULATED = """
import torch
from voxelry.base import type_trial
type_trial._TRIALS += (type_trial._Trial((16, 16), (2, 6, 6)),)
print(type_trial.is_sound(torch.device("cpu"), torch.bfloat16))
"""


@pytest.mark.skipif(not torch.cpu.get_capabilities().get("avx512_bf16"), reason="a processor without AVX-512 BF16")
@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="the fault is known of oneDNN in PyTorch 2.13")
def test_the_known_fault_of_two_voxels_would_be_noticed():
    """Of processors with AVX-512 BF16 and without AMX; oneDNN can be told to leave AMX alone."""
    setting = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", EMULATED], env=os.environ | setting, capture_output=True, text=True, check=False
    )
    assert answer.returncode != 0 or answer.stdout.split() == ["False"]  # memory that it does not own may end the process
