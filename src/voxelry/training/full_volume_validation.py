"""Full-volume validation during training: the Dice of a few whole cases, only where that takes little of the time."""

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
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.metrics.evaluate import score
from voxelry.metrics.scores import Scores

log = logging.getLogger(__name__)

CASES = 3
"""Validation cases that are segmented, spread evenly over all."""

SHARE = 0.5
"""Share of the time trained so far that the first validation may take; the loop decides how often it is repeated."""


class _SlowError(Exception):
    """Validation would take too long."""


class FullVolumeValidation:
    """Mean Dice of a few whole validation cases on their own grids, scored as the finished model is.

    If the first validation would take more than `SHARE` of the time trained so far, it is abandoned and never tried again.

    Args:
        manifest: the dataset.
        cases: validation cases, at least one.
        make_model: makes a model of a network.
        device: device on which the network is.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        manifest: Manifest,
        cases: Sequence[Case],
        make_model: Callable[[nn.Module], Model],
        device: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.manifest, self.make_model, self.device, self.clock = manifest, make_model, device, clock
        indices = np.unique(np.linspace(0, len(cases) - 1, min(CASES, len(cases))).round().astype(int))
        self.cases = [cases[index] for index in indices]
        self.limit: float | None = None
        self.is_slow = False

    def __call__(self, network: nn.Module, seconds: float) -> float | None:
        """The mean Dice of a network in evaluation mode; None where no label occurs, or where it would take too long.

        Args:
            network: network to validate.
            seconds: seconds that the run has trained, including those before it was resumed.
        """
        if self.is_slow:
            return None
        if self.limit is None:
            self.limit = SHARE * seconds
        try:
            value = self._scores(network, self.limit).mean_dice
        except _SlowError:
            self.is_slow = True
            log.info("no full-volume validation during training: it would take too much of the time")
            return None
        self.limit = math.inf
        return None if math.isnan(value) else value

    def _scores(self, network: nn.Module, limit: float) -> Scores:
        began = self.clock()

        def progress(_: str, done: int, total: int | None) -> None:
            elapsed = self.clock() - began
            if elapsed * max(1.0, (total or done) / max(1, done)) > limit:
                raise _SlowError

        predictor = Predictor(self.make_model(network), self.device, PredictOptions(instances=False))
        scores = []
        for case in self.cases:
            volume, reference = load_case(case, self.manifest)
            assert reference is not None
            scores.append(score(reference, predictor.predict(volume, progress).labels, case.id))
        return Scores.merge(scores)
