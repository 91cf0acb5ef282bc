"""Backends: what computes the network. PyTorch as it is, torch.compile, OpenVINO, ONNX Runtime.

Each is a function ``(network, device, dtype) -> Forward``. What has to be built for a window's shape is built when the first
window comes, once, whichever thread brings it. OpenVINO and ONNX Runtime read the network as ONNX, made in memory; neither
sends anything anywhere.
"""

from __future__ import annotations

import io
import logging
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxelry.base.extras import extra, is_installed
from voxelry.errors import UsageError, nearest
from voxelry.inference.forward import Forward, Maker, casting, quick_on_cpu, torch_forward

log = logging.getLogger(__name__)

AUTO = "auto"
"""The name that leaves the choice to `selection`."""

_NEEDS = {"openvino": ("openvino", "onnx", "onnxscript"), "onnxruntime": ("onnxruntime", "onnx", "onnxscript")}
_HALF = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}

Run = Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]


def compiled_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """torch.compile, on a CPU a window at a time; where no C++ compiler is, PyTorch as it is, and a warning."""
    if not has_compiler(device):
        log.warning("torch.compile needs a C++ compiler, and none is here: the network runs as it is")
        return torch_forward(network, device, dtype)
    with _quiet():
        quick = quick_on_cpu(network) if device.type == "cpu" else network
        optimised: nn.Module = torch.compile(quick, dynamic=False)  # type: ignore[assignment]  # torch types it as a function
        forward = casting(optimised, device, dtype)
    lock, seen = threading.Lock(), set[tuple[int, ...]]()

    def built(windows_BC: Tensor) -> Tensor:
        shape = tuple(windows_BC.shape)
        with lock:
            if shape not in seen:
                with _quiet():
                    logits = forward(windows_BC)
                seen.add(shape)
                return logits
        return forward(windows_BC)

    def each(windows_BC: Tensor) -> Tensor:  # another number of windows would be compiled anew
        return torch.cat([built(windows_BC[n : n + 1]) for n in range(len(windows_BC))])

    return each if device.type == "cpu" else built


def openvino_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """OpenVINO on the CPU, a window at a time.

    Raises:
        MissingExtraError: OpenVINO or ONNX is not installed.
        UsageError: another device than the CPU.
    """
    openvino = extra("openvino", "the backend 'openvino'")
    _need_onnx("openvino")
    _only_cpu("openvino", device)

    def build(window: Tensor) -> Callable[[], Run]:
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": _HALF[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(core.read_model(_onnx(network, window)), "CPU", settings)

        def session() -> Run:
            request = compiled.create_infer_request()
            return lambda x: np.array(request.infer([x], share_inputs=True)[0])  # the request reuses its own buffer

        return session

    return _windowwise(build)


def onnxruntime_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:  # noqa: ARG001
    """ONNX Runtime on the CPU, a window at a time, in float32.

    Raises:
        MissingExtraError: ONNX Runtime or ONNX is not installed.
        UsageError: another device than the CPU.
    """
    runtime = extra("onnxruntime", "the backend 'onnxruntime'")
    _need_onnx("onnxruntime")
    _only_cpu("onnxruntime", device)

    def build(window: Tensor) -> Callable[[], Run]:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        made = runtime.InferenceSession(_onnx(network, window).getvalue(), options, providers=["CPUExecutionProvider"])
        name = made.get_inputs()[0].name
        return lambda: lambda x: made.run(None, {name: x})[0]

    return _windowwise(build)


BACKENDS: dict[str, Maker] = {
    "torch": torch_forward,
    "compile": compiled_forward,
    "openvino": openvino_forward,
    "onnxruntime": onnxruntime_forward,
}


def check_backend(name: str) -> None:
    """Refuse a name that is no backend.

    Raises:
        UsageError: naming the nearest.
    """
    if name not in (AUTO, *BACKENDS):
        raise UsageError(f"no backend '{name}'", remedy=nearest(name, (AUTO, *BACKENDS)))


def installed_backends(device: torch.device) -> tuple[str, ...]:
    """What can compute on a device here, PyTorch as it is first."""
    found = ["torch"]
    if has_compiler(device):
        found.append("compile")
    if device.type == "cpu":
        found += [name for name, modules in _NEEDS.items() if is_installed(*modules)]
    return tuple(found)


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile can build kernels: on a CPU it needs a C++ compiler, on a GPU Triton and a C compiler."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return device.type == "cuda" and is_installed("triton") and any(shutil.which(name) for name in ("gcc", "clang", "cc"))


def _windowwise(build: Callable[[Tensor], Callable[[], Run]]) -> Forward:
    """A forward pass that runs one window after the other, in a session of the calling thread.

    Args:
        build: prepares the network for windows like the one given; returns what opens a session.
    """
    lock, local = threading.Lock(), threading.local()
    made: dict[tuple[int, ...], Callable[[], Run]] = {}

    def forward(windows_BC: Tensor) -> Tensor:
        shape = tuple(windows_BC.shape[1:])
        with lock:
            if shape not in made:
                made[shape] = build(windows_BC[:1])
        runs = local.__dict__.setdefault("runs", {})
        if shape not in runs:
            runs[shape] = made[shape]()
        given = windows_BC.numpy()
        logits = [torch.from_numpy(runs[shape](np.ascontiguousarray(given[n : n + 1]))) for n in range(len(given))]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    return forward


class _Finest(nn.Module):
    """The network's finest logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BC: Tensor) -> Tensor:
        """``(B, K, *window)`` logits."""
        finest: Tensor = self.network(x_BC)[0]
        return finest


def _onnx(network: nn.Module, window_BC: Tensor) -> io.BytesIO:
    """The network as ONNX for a single window of this shape; weights included."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(_Finest(network).eval(), (torch.zeros_like(window_BC),), dynamo=True, verbose=False)
        assert program is not None
        return io.BytesIO(program.model_proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's compiler and exporter warn of their own parts, and of libraries that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _need_onnx(name: str) -> None:
    for module in ("onnx", "onnxscript"):
        extra(module, f"the backend '{name}'")


def _only_cpu(name: str, device: torch.device) -> None:
    if device.type != "cpu":
        raise UsageError(f"the backend '{name}' runs on the CPU, not on {device}", remedy="Use 'torch' or 'compile' there.")
