"""When training ends early, and which weights are then kept: both follow from the pseudo-Dice of the milestones so far.

Not from whole cases: how often those are segmented depends on the machine's pace, and a run would not end where it ended before.
"""

from __future__ import annotations

from collections.abc import Sequence

from voxelry.training.checkpoint import Milestone


def is_best(history: Sequence[Milestone]) -> bool:
    """Whether the last milestone is better than every one before it."""
    *before, last = [milestone.pseudo_dice for milestone in history]
    return last is not None and all(score is None or last > score for score in before)


def is_over(history: Sequence[Milestone], patience: int | None) -> bool:
    """Whether `patience` milestones have gone by since the best one; those that measured nothing do not count."""
    known = [milestone.pseudo_dice for milestone in history if milestone.pseudo_dice is not None]
    return patience is not None and bool(known) and len(known) - 1 - known.index(max(known)) >= patience
