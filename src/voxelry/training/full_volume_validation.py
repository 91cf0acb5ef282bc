"""Whole cases segmented while training goes on: few of them, and only where that takes little of the time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from voxelry.core.model import Model
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest
from voxelry.inference.predictor import Predictor
from voxelry.metrics.evaluate import score
from voxelry.metrics.scores import Scores

log = logging.getLogger(__name__)

CASES = 3
"""So many validation cases, spread evenly over all."""

SHARE = 0.5
"""Of the time trained so far, which the first validation may take; how often it comes again is the loop's to say."""


class _SlowError(Exception):
    """It would take too long."""


class WholeCases:
    """Mean Dice of a few whole validation cases on their own grids, as the finished model is judged.

    Where the first validation would take more than `SHARE` of the time trained so far, it is given up, and no other is tried.

    Args:
        manifest: the dataset.
        cases: validation cases, at least one.
        model_of: makes a model of a network.
        device: on which the network is.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        manifest: Manifest,
        cases: Sequence[Case],
        model_of: Callable[[nn.Module], Model],
        device: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.manifest, self.model_of, self.device, self.clock = manifest, model_of, device, clock
        places = np.unique(np.linspace(0, len(cases) - 1, min(CASES, len(cases))).round().astype(int))
        self.cases = [cases[place] for place in places]
        self.limit: float | None = None
        self.is_slow = False

    def __call__(self, network: nn.Module, seconds: float) -> float | None:
        """The mean Dice of a network in evaluation mode; None where no label occurs, or where it would take too long.

        Args:
            network: to judge.
            seconds: that the run has trained, also before it was resumed.
        """
        if self.is_slow:
            return None
        if self.limit is None:
            self.limit = SHARE * seconds
        try:
            value = self._scores(network, self.limit).mean_dice
        except _SlowError:
            self.is_slow = True
            log.info("whole cases are not segmented while training goes on: that would take too much of the time")
            return None
        self.limit = math.inf
        return None if math.isnan(value) else value

    def _scores(self, network: nn.Module, limit: float) -> Scores:
        began = self.clock()

        def progress(_: str, done: int, total: int | None) -> None:
            taken = self.clock() - began
            if taken * max(1.0, (total or done) / max(1, done)) > limit:
                raise _SlowError

        predictor = Predictor(self.model_of(network), self.device)
        parts = []
        for case in self.cases:
            volume, reference = load_case(case, self.manifest)
            assert reference is not None
            parts.append(score(reference, predictor.predict(volume, progress).labels, case.id))
        return Scores.merge(parts)
