"""Whether the network is compiled. What cannot be compiled trains as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from voxelry.inference.backends import has_compiler

log = logging.getLogger(__name__)


class Compiled:
    """A network for training, compiled at its first step if it is to be and can be.

    Args:
        network: stays as it is; the compiled form has the same weights.
        wish: ``auto`` compiles on a GPU, where a compiler is; ``on`` tries on any device.
        device: that trains.
    """

    def __init__(self, network: nn.Module, wish: Literal["auto", "on", "off"], device: torch.device) -> None:
        self.network = network
        self.wanted = wish == "on" or (wish == "auto" and device.type == "cuda" and has_compiler(device))
        self.proven = False
        self.body: Callable[[Tensor], list[Tensor]] = network

    def attempt(self, work: Callable[[Callable[[Tensor], list[Tensor]]], Tensor]) -> Tensor:
        """Do forward and backward passes; where the first one fails compiled, do it, and all after it, uncompiled."""
        if self.wanted and not self.proven:
            try:
                self.body = torch.compile(self.network, dynamic=False)
                result = work(self.body)
            except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and none of them may end a run
                log.warning("the network could not be compiled and trains as it is (%s)", next(iter(str(error).splitlines()), ""))
                self.network.zero_grad(set_to_none=True)
                self.wanted, self.body = False, self.network
            else:
                self.proven = True
                return result
        return work(self.body)
