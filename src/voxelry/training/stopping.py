"""Early stopping, and the best weights so far: both follow from the pseudo-Dice of the milestones.

Full-volume validation is not used: its frequency depends on the machine's speed, so a repeated run would end at another step.
"""

from __future__ import annotations

from collections.abc import Sequence

from voxelry.training.checkpoint import Milestone


def is_best(history: Sequence[Milestone]) -> bool:
    """Whether the last milestone is better than every one before it."""
    *before, last = [milestone.pseudo_dice for milestone in history]
    return last is not None and all(score is None or last > score for score in before)


def is_over(history: Sequence[Milestone], patience: int | None) -> bool:
    """Whether `patience` milestones have passed since the best one; those without a pseudo-Dice do not count."""
    known = [milestone.pseudo_dice for milestone in history if milestone.pseudo_dice is not None]
    return patience is not None and bool(known) and len(known) - 1 - known.index(max(known)) >= patience
