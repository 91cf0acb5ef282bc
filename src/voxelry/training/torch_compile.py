"""Compiles the network with torch.compile for training, and falls back to eager mode where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from voxelry.inference.backends import has_compiler

log = logging.getLogger(__name__)


class CompiledNetwork:
    """A network for training, compiled at its first step where that is wanted and possible.

    Args:
        network: stays as it is; the compiled form shares its weights.
        mode: ``auto`` compiles on a GPU, where a compiler is installed; ``on`` tries on any device.
        device: device that trains.
    """

    def __init__(self, network: nn.Module, mode: Literal["auto", "on", "off"], device: torch.device) -> None:
        self.network = network
        self.wanted = mode == "on" or (mode == "auto" and device.type == "cuda" and has_compiler(device))
        self.works = False
        self.forward: Callable[[Tensor], list[Tensor]] = network

    def run(self, passes: Callable[[Callable[[Tensor], list[Tensor]]], Tensor]) -> Tensor:
        """Run forward and backward passes; if the first compiled attempt fails, this and all later ones run in eager mode."""
        if self.wanted and not self.works:
            try:
                self.forward = torch.compile(self.network, dynamic=False)
                result = passes(self.forward)
            except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and none of them may end a run
                log.warning(
                    "the network could not be compiled and trains in eager mode (%s)", next(iter(str(error).splitlines()), "")
                )
                self.network.zero_grad(set_to_none=True)
                self.wanted, self.forward = False, self.network
            else:
                self.works = True
                return result
        return passes(self.forward)
