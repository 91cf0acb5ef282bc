"""Facts about predictions that a ledger keeps: each kind is computed by one function while the prediction is in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxelry.core.model import Model
    from voxelry.core.volume import Volume
    from voxelry.inference.predictor import Prediction

QUALITY = "quality"
"""Facts of quality control: `voxelry.inference.quality.Quality.as_dict`."""

FactFunction = Callable[["Volume", "Prediction", "Model"], dict[str, Any]]
"""Computes a JSON object from a scan, its prediction, and the model (of an ensemble its first) that made it."""


def _quality(volume: Volume, prediction: Prediction, model: Model) -> dict[str, Any]:
    """Predicted Dice, flags and whether somebody should look."""
    from voxelry.inference.quality import assess

    return assess(volume, prediction, model).as_dict()


FACTS: dict[str, FactFunction] = {QUALITY: _quality}
"""Kinds of facts by name. A fact that cannot be computed fails the scan, as any other fault."""


def facts_of(volume: Volume, prediction: Prediction, model: Model) -> dict[str, Any]:
    """All kinds of facts about a prediction, by name, as JSON holds them: what is no number becomes null."""
    text = json.dumps({name: compute(volume, prediction, model) for name, compute in FACTS.items()})
    facts: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return facts
