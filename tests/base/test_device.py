import subprocess
import sys

import pytest
import torch

from voxelry.base import type_trial
from voxelry.base.device import choose_device, compute_dtype
from voxelry.errors import UsageError


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("tpu9", "mps", "gpu", "cuda:", "cuda:-1", "CUDA", "", "xpu:0", "meta", "cpu:0"):
        with pytest.raises(UsageError, match=r"device '.*' cannot be used: it is none that voxelry computes on. Use 'auto'"):
            choose_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"device 'cuda' cannot be used"):
            choose_device("cuda")


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="'cuda:1' cannot be used: PyTorch finds no GPU on this machine"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="'cuda:2' cannot be used: this machine has 2, counted from 0"):
        choose_device("cuda:2")

    def fail(*_, **__):
        raise RuntimeError("CUDA kernel errors might be asynchronously reported\nTORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(UsageError, match=r"'cuda:1' cannot be used: it does not answer. Its driver") as raised:
        choose_device("cuda:1")
    assert "TORCH" not in str(raised.value)


def test_computing_types(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(type_trial, "is_sound", lambda *_: True)
    assert compute_dtype(cpu, "off") is torch.float32
    for capabilities, dtype in (
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities, raising=False)
        assert compute_dtype(cpu, "auto") is dtype
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert compute_dtype(torch.device("cuda"), "auto") is torch.float16
    assert compute_dtype(torch.device("meta"), "auto") is torch.float32
    monkeypatch.setattr(type_trial, "is_sound", lambda *_: False)
    assert compute_dtype(cpu, "auto") is compute_dtype(torch.device("cuda"), "auto") is torch.float32


def test_pytorch_is_imported_only_when_a_device_is_asked_for():
    code = "import sys, voxelry.base.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
