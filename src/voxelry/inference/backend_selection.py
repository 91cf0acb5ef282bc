"""Backends are tried on a patch of the scan: ``auto`` takes the fastest whose labels are PyTorch's, a named one must agree."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxelry.errors import UsageError, VoxelryError
from voxelry.inference.backends import AUTO, BACKENDS, check_backend, installed_backends
from voxelry.inference.forward import Forward
from voxelry.networks.classes import winners

log = logging.getLogger(__name__)

AGREEMENT = 0.999
"""The share of a patch's voxels whose winning class must be that of PyTorch as it is."""

LOGIT_ERROR = 0.1
"""Largest error of a named backend's logits, root mean square as a share of PyTorch's in float32. Rounding to bfloat16 makes a
hundredth."""

TRIAL_SECONDS = {"compile": 60.0, "openvino": 15.0, "onnxruntime": 15.0}
"""Seconds that building a backend may take: it is tried only where the run takes longer than that without it."""


@dataclass(frozen=True)
class BackendSelection:
    """The backend chosen for a run, and why.

    Attributes:
        name: the backend.
        seconds: seconds per patch, by backend tried.
        agreement: with PyTorch as it is, by backend tried: share of voxels, 0..1.
        reason: a sentence.
    """

    name: str
    seconds: dict[str, float]
    agreement: dict[str, float]
    reason: str


def select_backend(
    network: nn.Module,
    patch_BC: Tensor,
    device: torch.device,
    dtype: torch.dtype,
    passes: int,
    regions: bool = False,
    head: int = 0,
) -> tuple[BackendSelection, Forward]:
    """Try the installed backends on one patch and keep the fastest that agrees.

    Args:
        network: in evaluation mode, on the device.
        patch_BC: ``(1, C, *patch)`` float32 of the scan, on the device.
        device: where the network is.
        dtype: type of the convolutions.
        passes: forward passes of the run.
        regions: whether the network's classes are regions.
        head: channels of an instance head behind the classes.

    Returns:
        The selection, and its forward pass, built.
    """
    forwards: dict[str, Forward] = {"torch": BACKENDS["torch"](network, device, dtype)}
    plain, usual = _timed(forwards["torch"], patch_BC, device, regions, head)
    seconds, agreement, skipped = {"torch": usual}, {"torch": 1.0}, []
    for name in installed_backends(device)[1:]:
        if usual * passes < TRIAL_SECONDS[name]:
            skipped.append(name)
            continue
        try:
            forward = BACKENDS[name](network, device, dtype)
            labels, seconds[name] = _timed(forward, patch_BC, device, regions, head)
        except (VoxelryError, RuntimeError, ValueError, TypeError, OSError) as error:
            log.info("backend %s cannot run this network: %s", name, " ".join(str(error).split())[:200])
            continue
        agreement[name] = float((labels == plain).float().mean())
        forwards[name] = forward
    fit = [name for name in forwards if agreement[name] >= AGREEMENT]
    best = min(fit, key=lambda name: seconds[name])
    selection = BackendSelection(best, seconds, agreement, _reason(best, seconds, agreement, skipped))
    log.info("%s", selection.reason)
    return selection, forwards[best]


def check_logits(name: str, forward: Forward, plain: Forward, patch_BC: Tensor) -> None:
    """Refuse a backend that gives other logits than PyTorch on this machine.

    Args:
        name: the backend.
        forward: the network in that backend.
        plain: the network in PyTorch, in float32.
        patch_BC: ``(1, C, *patch)`` float32.

    Raises:
        UsageError: the logits differ by more than rounding.
    """
    wanted = plain(patch_BC).float()
    error = (forward(patch_BC).float() - wanted).square().mean().sqrt()
    size = wanted.square().mean().sqrt()
    if not error <= LOGIT_ERROR * size:  # true for NaN too
        raise UsageError(
            f"the backend '{name}' gives other logits than PyTorch on this machine: they differ by {float(error):.3g}, where "
            f"{float(size):.3g} is usual",
            remedy="Use the backend 'torch', or 'auto', which takes the fastest that agrees.",
        )


def _timed(
    forward: Callable[[Tensor], Tensor], patch_BC: Tensor, device: torch.device, regions: bool, head: int
) -> tuple[Tensor, float]:
    """The winning classes, and the seconds of the second of two passes; the first compiles and allocates."""
    forward(patch_BC)
    _wait(device)
    start = time.perf_counter()
    logits = forward(patch_BC)
    _wait(device)
    return winners(logits[:, : logits.shape[1] - head], regions), time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reason(best: str, seconds: dict[str, float], agreement: dict[str, float], skipped: list[str]) -> str:
    tried = ", ".join(f"{name} {seconds[name]:.3g} s a patch ({agreement[name]:.4%} agree)" for name in agreement)
    untried = f"; not tried for so few patches: {', '.join(skipped)}" if skipped else ""
    return f"backend {best}: {tried}{untried}"


class MemberForwards:
    """Forward passes of the members of an ensemble, built when first needed and kept for the whole run.

    Args:
        networks: in evaluation mode, on the device.
        device: where they are.
        dtype: type of the convolutions.
        backend: its name, or ``auto``.
        regions: whether the networks' classes are regions.
        head: channels of an instance head behind the classes.

    Raises:
        UsageError: no such backend.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        device: torch.device,
        dtype: torch.dtype,
        backend: str,
        regions: bool = False,
        head: int = 0,
    ) -> None:
        check_backend(backend)
        self._networks, self._device, self._dtype, self._backend = networks, device, dtype, backend
        self._regions, self._head = regions, head
        self._lock = threading.Lock()
        self._forwards: list[Forward] = []
        self.selection: BackendSelection | None = None

    def forwards(self, patch: Callable[[], Tensor], passes: int) -> list[Forward]:
        """One forward pass a network.

        Args:
            patch: gives a patch of the scan, ``(1, C, *patch)`` float32 on the device, to choose by.
            passes: forward passes of the run.

        Raises:
            MissingExtraError: the backend that was named is not installed.
            UsageError: it cannot compute on this device, or computes something else than PyTorch.
        """
        with self._lock:
            if not self._forwards:
                self._forwards = self._build(patch, passes)
            return self._forwards

    def take(self, forwards: Sequence[Forward]) -> None:
        """Compute by these forward passes, one a network, whatever the backend."""
        with self._lock:
            self._forwards = list(forwards)

    @property
    def description(self) -> str:
        """Which backend computes the networks, and why where it was chosen; empty before the first scan."""
        if self.selection is not None:
            return self.selection.reason
        return f"backend {self._backend}" if self._forwards else ""

    def _build(self, patch: Callable[[], Tensor], passes: int) -> list[Forward]:
        if self._backend != AUTO:
            named = [BACKENDS[self._backend](network, self._device, self._dtype) for network in self._networks]
            if self._backend != "torch":
                plain = BACKENDS["torch"](self._networks[0], self._device, torch.float32)
                check_logits(self._backend, named[0], plain, patch())
            return named
        self.selection, first = select_backend(
            self._networks[0], patch(), self._device, self._dtype, passes, self._regions, self._head
        )
        build = BACKENDS[self.selection.name]
        return [first, *(build(network, self._device, self._dtype) for network in self._networks[1:])]
