"""A moving average of the weights, which often segments better than the weights themselves (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of all floating-point weights and statistics of a network.

    Its decay rises with the steps, ``(1 + n) / (10 + n)`` up to `decay`, so that the random start is soon forgotten.

    Args:
        network: on the device on which it trains.
        decay: of the average; with 0 there is none, and the network's own weights stand for it.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        named = [*network.named_parameters(), *network.named_buffers()] if decay else []  # each once, however many names it has
        self.weights: dict[str, Tensor] = {name: one.detach() for name, one in named if one.is_floating_point()}
        self.average: dict[str, Tensor] = {name: one.clone() for name, one in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step; `step` counts from 1."""
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), list(self.weights.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights within the block, and its own after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weights in self.weights.items():
            kept = weights.clone()
            weights.copy_(self.average[name])
            self.average[name].copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return dict(self.average)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with an average.

        Raises:
            ValueError: it is of another network.
        """
        if state.keys() != self.average.keys():
            raise ValueError("averaged weights of other names")
        for name, weights in self.average.items():
            weights.copy_(state[name])
