"""Models of several parts: networks that each tell some labels of a table apart; labels of a later part lie over earlier ones.

So TotalSegmentator divides its labels among networks. Each part is segmented by itself, within the memory budget, and laid over
what is there; only labels (and a map of confidence) are kept between parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import LabelTable
from voxelry.core.model import Model


def parts_of(models: Sequence[Model]) -> list[list[Model]]:
    """The models of each part, each with the labels that its network tells apart; one list where a table is not divided.

    Args:
        models: of one table, parts in the order in which they are laid over each other.
    """
    parts: dict[tuple[str, ...], list[Model]] = {}
    for model in models:
        parts.setdefault(model.card.classes, []).append(_with_own_labels(model))
    return list(parts.values())


def _with_own_labels(model: Model) -> Model:
    if not model.card.classes:
        return model
    card = model.card.model_copy(update={"labels": model.own_labels, "classes": ()})
    return replace(model, card=card, previous=None if model.previous is None else _with_own_labels(model.previous))


def stored_values(classes: NDArray[Any], own: LabelTable, table: LabelTable) -> NDArray[Any]:
    """Stored values of a part's class indices, in the type of the whole table.

    Args:
        classes: class indices of the part.
        own: labels of the part.
        table: the whole table.
    """
    kind = table.from_classes(np.arange(len(table) + 1)).dtype
    lookup = own.from_classes(np.arange(len(own) + 1)).astype(kind)
    stored: NDArray[Any] = lookup[classes]
    return stored


def lay_over(
    below: tuple[NDArray[Any], NDArray[np.uint8] | None], above: tuple[NDArray[Any], NDArray[np.uint8] | None], entropy: bool
) -> None:
    """Lay a part's labels over those of earlier parts, in place.

    Args:
        below: stored values and map of confidence so far.
        above: those of the part.
        entropy: whether the map is of entropy, which grows with doubt, and not of the winner's probability.
    """
    labels, confidence = below
    won = above[0] != 0
    if confidence is not None and above[1] is not None:
        nothing = ~won[0] & (labels[0] == 0)
        doubt = np.maximum if entropy else np.minimum
        doubt(confidence, above[1], out=confidence, where=nothing)
        np.copyto(confidence, above[1], where=won[0])
    np.copyto(labels, above[0], where=won)
