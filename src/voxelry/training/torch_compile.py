"""Compiles the network with torch.compile for training; falls back to eager mode where that fails or gives other gradients."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from voxelry.inference.backends import has_compiler
from voxelry.training.determinism import random_states, restore_random_states

log = logging.getLogger(__name__)

TOLERANCE = 0.1
"""Difference of the compiled network's first gradient from the plain one's, as a share of its length. Other orders of rounding in
bfloat16 make a hundredth, wrong code makes 1."""

Passes = Callable[[Callable[[Tensor], list[Tensor]]], Tensor]
"""Forward and backward passes through a function of patches; returns the loss."""


class CompiledNetwork:
    """A network for training, compiled at its first step where that is wanted and possible.

    Args:
        network: stays as it is; the compiled form shares its weights.
        mode: ``auto`` compiles on a GPU, where a compiler is installed; ``on`` tries on any device.
        device: device that trains.
    """

    def __init__(self, network: nn.Module, mode: Literal["auto", "on", "off"], device: torch.device) -> None:
        self.network = network
        self.device = device
        self.wanted = mode == "on" or (mode == "auto" and device.type == "cuda" and has_compiler(device))
        self.works = False
        self.forward: Callable[[Tensor], list[Tensor]] = network

    def run(self, passes: Passes) -> Tensor:
        """Run forward and backward passes; if the first compiled attempt fails, this and all later ones run in eager mode.

        The first is also run in eager mode, and must agree; networks that draw random numbers are not compared.
        """
        if self.wanted and not self.works:
            plain = self._plain_results(passes)
            try:
                self.forward = torch.compile(self.network, dynamic=False)
                result = passes(self.forward)
            except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and none of them may end a run
                log.warning(
                    "the network could not be compiled and trains in eager mode (%s)", next(iter(str(error).splitlines()), "")
                )
            else:
                self.works = plain is None or _agree([result, *_gradients(self.network)], plain)
                if self.works:
                    return result
                log.warning("the compiled network has other gradients than the plain one and trains in eager mode")
            self.network.zero_grad(set_to_none=True)
            self.wanted, self.forward = False, self.network
        return passes(self.forward)

    def _plain_results(self, passes: Passes) -> list[Tensor] | None:
        """Loss and gradients in eager mode, which leave nothing behind; None where the network draws random numbers."""
        random = random_states(self.device)
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        results = [passes(self.network), *_gradients(self.network)]
        draws = any(not torch.equal(state, random[name]) for name, state in random_states(self.device).items())
        self.network.zero_grad(set_to_none=True)
        for buffer, before in zip(self.network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        restore_random_states(random, self.device)
        return None if draws else results


def _gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def _agree(results: list[Tensor], plain: list[Tensor]) -> bool:
    """Whether results differ by rounding alone; gradients that overflow a half type must do so in both."""
    ours, theirs = (torch.cat([tensor.float().flatten() for tensor in tensors]) for tensors in (results, plain))
    if ours.shape != theirs.shape or not theirs.isfinite().all():
        return ours.shape == theirs.shape and not bool(ours.isfinite().all())
    return bool((ours - theirs).norm() <= TOLERANCE * theirs.norm())
