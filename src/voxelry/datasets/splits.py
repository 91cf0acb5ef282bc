"""Splits by patient: train and validation by fraction, and the check against leaks (folds: `voxelry.training.folds`).

Groups are ordered by a hash of seed and name, not by a random generator: the order is the same on every machine and version, does
not depend on the order of the cases, and changes little with one patient more.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic import Field

from voxelry.base.schema import Frozen
from voxelry.datasets.cases import Case, SplitName
from voxelry.errors import SplitLeakError


class SplitRule(Frozen):
    """Split of train and val where the data state none.

    Attributes:
        val: the fraction of patients for val.
        seed: another seed gives another split.
    """

    val: float = Field(default=0.2, ge=0, lt=1)
    seed: int = 0


def _order(groups: Iterable[str], seed: int) -> list[str]:
    """Unique groups in an order that depends on seed and names alone."""
    return sorted(set(groups), key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())


def split_groups(groups: Iterable[str], fraction: float, seed: int = 0) -> frozenset[str]:
    """Choose the groups of the smaller side of a split.

    Args:
        groups: patients, in any order, repeats allowed.
        fraction: share of the groups to choose, 0 <= fraction < 1; rounded to whole groups, but where it is above 0 and
            there are two groups or more, at least one is chosen and one is left.
        seed: decides which.

    Returns:
        The chosen groups.

    Examples:
        >>> from voxelry.datasets import split_groups
        >>> val = split_groups(["p1", "p2", "p3", "p4", "p5"], 0.2)
        >>> len(val)
        1
    """
    ordered = _order(groups, seed)
    count = round(fraction * len(ordered))
    if fraction > 0 and len(ordered) > 1:
        count = min(max(count, 1), len(ordered) - 1)
    return frozenset(ordered[:count])


def share_out(cases: Sequence[Case], rule: SplitRule) -> tuple[Case, ...]:
    """Assign train or val to every labelled case without a split; unchanged if any case has one of them already."""
    if any(case.split in ("train", "val") for case in cases):
        return tuple(cases)
    val = split_groups((case.group for case in cases if _free(case)), rule.val, rule.seed)
    return tuple(replace(case, split="val" if case.group in val else "train") if _free(case) else case for case in cases)


def _free(case: Case) -> bool:
    return case.split is None and case.has_labels


def check_no_leak(cases: Iterable[Case], where: str = "cases") -> None:
    """Refuse a patient on two sides of a split.

    Args:
        cases: cases with their splits; those without one take no part.
        where: the manifest's file, for messages.

    Raises:
        SplitLeakError: naming the patient and two of its cases.
    """
    sides: dict[str, dict[SplitName, str]] = defaultdict(dict)
    for case in cases:
        if case.split is not None:
            sides[case.group].setdefault(case.split, case.id)
    leaks = [(group, case_by_split) for group, case_by_split in sides.items() if len(case_by_split) > 1]
    if leaks:
        group, case_by_split = leaks[0]
        split_names = " and ".join(f"{split} (case '{id}')" for split, id in case_by_split.items())
        more = f"; so are {len(leaks) - 1} more" if len(leaks) > 1 else ""
        raise SplitLeakError(
            f"{where}: patient '{group}' is in {split_names}{more}", remedy="Put all cases of a patient on one side of the split."
        )
