"""Exponential moving average of the weights, which often segments better than the weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of all floating-point weights and statistics of a network.

    The decay rises with the steps, ``(1 + n) / (10 + n)`` up to `decay`, so that the random start is soon forgotten.

    Args:
        network: on the device on which it trains.
        decay: decay of the average; 0 switches it off, and the network's own weights take its place.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        named = [*network.named_parameters(), *network.named_buffers()] if decay else []  # each once
        self.weights: dict[str, Tensor] = {name: tensor.detach() for name, tensor in named if tensor.is_floating_point()}
        self.average: dict[str, Tensor] = {name: tensor.clone() for name, tensor in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after a step to the average; `step` counts from 1."""
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), list(self.weights.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the averaged weights within the block, and its own after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weights in self.weights.items():
            current = weights.clone()
            weights.copy_(self.average[name])
            self.average[name].copy_(current)

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return dict(self.average)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue an average.

        Raises:
            ValueError: it is of another network.
        """
        if state.keys() != self.average.keys():
            raise ValueError("averaged weights of other names")
        for name, weights in self.average.items():
            weights.copy_(state[name])
