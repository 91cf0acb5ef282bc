"""Determinism: deterministic algorithms, random states, and the number of threads of a run that must be repeatable."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

log = logging.getLogger(__name__)


@contextmanager
def arithmetic(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Use the fastest algorithms within the block or, if `deterministic`, only those that give the same numbers every time.

    On a CPU the numbers are the same in any case, with the same number of threads.
    """
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; NVIDIA's cuBLAS manual, 2.1.4
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic, cudnn.benchmark = True, False
    elif device.type == "cuda":
        cudnn.benchmark = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Torch's random states of the CPU and of the GPU that trains."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Set random states; a GPU's are ignored where the run is resumed on another kind of device."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def restore_threads(count: int) -> None:
    """Compute in as many threads as before: with another number, sums are rounded differently."""
    if count and count != torch.get_num_threads():
        log.info("computing in %d threads, as the run did before, not %d", count, torch.get_num_threads())
        torch.set_num_threads(count)
