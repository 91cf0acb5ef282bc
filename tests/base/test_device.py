import subprocess
import sys

import pytest
import torch

from voxelry.base.device import choose_device, compute_dtype
from voxelry.errors import UsageError


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UsageError, match=r"device 'tpu9' cannot be used.*Use 'auto'"):
        choose_device("tpu9")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"device 'cuda' cannot be used"):
            choose_device("cuda")


def test_computing_types(monkeypatch):
    cpu = torch.device("cpu")
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


def test_pytorch_is_imported_only_when_a_device_is_asked_for():
    code = "import sys, voxelry.base.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
