"""Backends that compute the network: PyTorch as it is, torch.compile, OpenVINO, ONNX Runtime.

Each is a function ``(network, device, dtype) -> Forward``. A network is compiled for a patch shape once, at the first patch
of that shape, in any thread. OpenVINO reads what PyTorch traces, ONNX Runtime the network as ONNX, made in memory; neither
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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxelry.base.extras import extra, is_installed
from voxelry.errors import UsageError, nearest
from voxelry.inference.forward import Forward, ForwardBuilder, autocast_forward, optimised_for_cpu, torch_forward

log = logging.getLogger(__name__)

AUTO = "auto"
"""The name that leaves the choice to `backend_selection`."""

_ONNX = ("onnx", "onnxscript")
_NEEDS = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", *_ONNX)}
_HALF = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}

Run = Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]


def compiled_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """torch.compile, on a CPU a patch at a time; without a C++ compiler PyTorch as it is, and a warning."""
    if not has_compiler(device):
        log.warning("torch.compile needs a C++ compiler, and none is installed: the network runs uncompiled")
        return torch_forward(network, device, dtype)
    with quiet_compilers():
        plain = optimised_for_cpu(network) if device.type == "cpu" else network
        optimised: nn.Module = torch.compile(plain, dynamic=False)  # type: ignore[assignment]  # torch types it as a function
        forward = autocast_forward(optimised, device, dtype)
    lock, compiled_shapes = threading.Lock(), set[tuple[int, ...]]()

    def built(patches_BC: Tensor) -> Tensor:
        shape = tuple(patches_BC.shape)
        with lock:
            if shape not in compiled_shapes:
                with quiet_compilers():
                    logits = forward(patches_BC)
                compiled_shapes.add(shape)
                return logits
        return forward(patches_BC)

    def each(patches_BC: Tensor) -> Tensor:  # another number of patches would be compiled again
        return torch.cat([built(patches_BC[n : n + 1]) for n in range(len(patches_BC))])

    return each if device.type == "cpu" else built


def openvino_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:
    """OpenVINO on the CPU, a patch at a time.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        UsageError: another device than the CPU.
    """
    openvino = extra("openvino", "the backend 'openvino'")
    _only_cpu("openvino", device)

    return _patchwise(lambda patch: _openvino_sessions(openvino, openvino_model(network, patch), dtype))


def onnxruntime_forward(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Forward:  # noqa: ARG001
    """ONNX Runtime on the CPU, a patch at a time, in float32.

    Raises:
        MissingExtraError: ONNX Runtime or ONNX is not installed.
        UsageError: another device than the CPU.
    """
    runtime = extra("onnxruntime", "the backend 'onnxruntime'")
    need_onnx("the backend 'onnxruntime'")
    _only_cpu("onnxruntime", device)

    return _patchwise(lambda patch: _onnxruntime_sessions(runtime, onnx_bytes(network, patch)))


def file_forward(file: Path, dtype: torch.dtype = torch.float32) -> Forward:
    """A network that was written to a file, on the CPU, a patch at a time: ``.onnx`` by ONNX Runtime, ``.xml`` by OpenVINO.

    Args:
        file: written for patches of the one shape that it will be given.
        dtype: type of the convolutions, for OpenVINO; those that the file holds in int8 stay so.

    Raises:
        MissingExtraError: the runtime is not installed.
    """
    if file.suffix == ".onnx":
        runtime = extra("onnxruntime", "an ONNX network")
        return _patchwise(lambda _: _onnxruntime_sessions(runtime, str(file)))
    openvino = extra("openvino", "an OpenVINO network")
    return _patchwise(lambda _: _openvino_sessions(openvino, openvino.Core().read_model(file), dtype))


BACKENDS: dict[str, ForwardBuilder] = {
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
    """Backends that can compute on a device here, PyTorch as it is first."""
    names = ["torch"]
    if has_compiler(device):
        names.append("compile")
    if device.type == "cpu":
        names += [name for name, modules in _NEEDS.items() if is_installed(*modules)]
    return tuple(names)


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile can build kernels: on a CPU it needs a C++ compiler, on a GPU Triton and a C compiler."""
    if device.type == "cpu":
        return any(shutil.which(name) for name in ("g++", "clang++", "c++"))
    return device.type == "cuda" and is_installed("triton") and any(shutil.which(name) for name in ("gcc", "clang", "cc"))


def _openvino_sessions(openvino: Any, network: Any, dtype: torch.dtype) -> Callable[[], Run]:
    """Opens sessions of a network of OpenVINO's, compiled once."""
    settings = {
        "INFERENCE_PRECISION_HINT": _HALF[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # else the workers of a batch would all compute on the first processors
    }
    compiled = openvino.Core().compile_model(network, "CPU", settings)

    def session() -> Run:
        request = compiled.create_infer_request()
        return lambda x: np.array(request.infer([x], share_inputs=True)[0])  # the request reuses its own buffer

    return session


def _onnxruntime_sessions(runtime: Any, network: str | bytes) -> Callable[[], Run]:
    """Opens sessions of a network, a file's name or ONNX in memory, which all share one."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: lambda x: session.run(None, {name: x})[0]


def _patchwise(build: Callable[[Tensor], Callable[[], Run]]) -> Forward:
    """A forward pass that runs one patch after the other, in a session of the calling thread.

    Args:
        build: prepares the network for patches like its argument; returns a function that opens a session.
    """
    lock, local = threading.Lock(), threading.local()
    openers: dict[tuple[int, ...], Callable[[], Run]] = {}

    def forward(patches_BC: Tensor) -> Tensor:
        shape = tuple(patches_BC.shape[1:])
        with lock:
            if shape not in openers:
                openers[shape] = build(patches_BC[:1])
        runs = local.__dict__.setdefault("runs", {})
        if shape not in runs:
            runs[shape] = openers[shape]()
        inputs = patches_BC.numpy()
        logits = [torch.from_numpy(runs[shape](np.ascontiguousarray(inputs[n : n + 1]))) for n in range(len(inputs))]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    return forward


class FinestLogits(nn.Module):
    """The network's finest logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BC: Tensor) -> Tensor:
        """``(B, K, *patch)`` logits."""
        finest: Tensor = self.network(x_BC)[0]
        return finest


def openvino_model(network: nn.Module, patch_BC: Tensor) -> Any:
    """The network as OpenVINO's model for a single patch of this shape: ``patch`` to ``logits``, weights included.

    OpenVINO reads a trace of the network, and what it cannot read so (shifted windows) as ONNX, whose export takes seconds more.
    Its `convert_model` is gone around: that reports each use to its makers.

    Raises:
        MissingExtraError: the network needs ONNX, which is not installed.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    empty = torch.zeros_like(patch_BC)
    with quiet_compilers(), torch.no_grad():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            FinestLogits(network).eval(), empty, check_trace=False
        )
        reader = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=(empty,))
    try:
        model = reader.convert(reader.load(decoder))
        model.reshape([*empty.shape])
    except RuntimeError as error:
        log.info("read as ONNX, since OpenVINO cannot read the trace: %s", " ".join(str(error).split())[:200])
        need_onnx("the network in OpenVINO")
        return openvino.Core().read_model(io.BytesIO(onnx_bytes(network, patch_BC)))
    model.inputs[0].tensor.set_names({"patch"})
    model.outputs[0].tensor.set_names({"logits"})
    return model


def need_onnx(feature: str) -> None:
    """Check that what writes ONNX is installed.

    Raises:
        MissingExtraError: it is not; it names the feature and the extra.
    """
    for module in _ONNX:
        extra(module, feature)


def onnx_bytes(network: nn.Module, patch_BC: Tensor) -> bytes:
    """The network as ONNX for a single patch of this shape: ``patch`` to ``logits``, weights included."""
    with quiet_compilers(), torch.no_grad():
        program = torch.onnx.export(
            FinestLogits(network).eval(),
            (torch.zeros_like(patch_BC),),
            input_names=["patch"],
            output_names=["logits"],
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        serialised: bytes = program.model_proto.SerializeToString()
        return serialised


@contextmanager
def quiet_compilers() -> Iterator[None]:
    """Silences warnings of PyTorch's compiler and exporter about their own internals and unneeded libraries."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _only_cpu(name: str, device: torch.device) -> None:
    if device.type != "cpu":
        raise UsageError(f"the backend '{name}' runs on the CPU, not on {device}", remedy="Use 'torch' or 'compile' there.")
