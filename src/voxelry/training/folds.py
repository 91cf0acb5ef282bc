"""Folds of a cross-validation: whole patients, level in size, alike in what they hold, the same on every machine.

Which patient goes where depends on the set of cases, what is known of them, and the seed, and on nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.files import read_text, write_json
from voxelry.datasets.cases import Case
from voxelry.errors import ManifestError, SplitLeakError, UsageError

FOLDS_FILE = "folds.json"

LARGE = 0.5
"""Of the cases that have a label, those above this quantile of its volume hold much of it."""
_SWAPPED = 2000
"""Patients up to whom single ones are exchanged between folds until nothing gets better; dealing alone is close."""
_ROUND = 9
"""Decimals that count when two placements are compared, so that every machine takes the same."""


@dataclass(frozen=True)
class Folds:
    """A cross-validation's parts.

    Attributes:
        parts: for each fold the ids of the cases that it validates on, in the order of the cases.
        seed: that they were dealt with, None where somebody else dealt them.
    """

    parts: tuple[tuple[str, ...], ...]
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.parts)

    def sides(self, fold: int, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        """The cases that a fold trains on, and those it validates on, in the order given."""
        held_out = set(self.parts[fold])
        return [case for case in cases if case.id not in held_out], [case for case in cases if case.id in held_out]


def chosen_folds(fold: int | None, count: int) -> Sequence[int]:
    """The folds that a command trains: the one it names, or all.

    Args:
        fold: from 0; None is all.
        count: of the run's folds, 0 for a run without.

    Raises:
        UsageError: there is no such fold.
    """
    if fold is None:
        return range(count)
    if not count:
        raise UsageError(f"fold {fold} of a run without folds", remedy="Say how many there are, as --folds 5.")
    if not 0 <= fold < count:
        raise UsageError(f"fold {fold} of {count}", remedy=f"Folds are counted from 0 to {count - 1}.")
    return [fold]


def make_folds(cases: Sequence[Case], k: int, seed: int = 0, volumes: Mapping[str, Mapping[str, float]] | None = None) -> Folds:
    """Part cases into k folds.

    The largest patients are dealt first, each to a fold that has fewest cases; so two folds differ by no more cases than the
    largest patient has. Among those folds the one is taken, and patients with as many cases are exchanged later, so that
    sites, labels that occur, and labels of much volume are spread evenly: by the sum over these traits of squared deviations
    from an even share, each by the trait's own frequency (as chi square; the aim of Sechidis et al. 2011,
    doi:10.1007/978-3-642-23808-6_10).

    Args:
        cases: the cases to part; their own splits are not looked at.
        k: number of folds, at least 2 and at most the number of patients.
        seed: decides who goes where.
        volumes: case id -> label name -> how much of it the case holds, in any unit.

    Returns:
        The folds.

    Raises:
        ManifestError: k does not fit.
    """
    sizes = Counter(case.group for case in cases)
    if not 2 <= k <= len(sizes):
        raise ManifestError(f"{k} folds of {len(sizes)} patients", remedy=f"Choose 2 to {len(sizes)} folds.")
    traits = _traits(cases, volumes or {})
    groups = _order(sizes, seed)
    table = _table(groups, cases, traits)
    count = np.array([sizes[group] for group in groups])
    places = _dealt(count, table, k)
    if len(groups) <= _SWAPPED:
        _exchange(places, count, table, k)
    fold_of = dict(zip(groups, places.tolist(), strict=True))
    return Folds(tuple(tuple(case.id for case in cases if fold_of[case.group] == fold) for fold in range(k)), seed)


def _traits(cases: Sequence[Case], volumes: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """Case id -> what is known of it, in words: its site, its labels, those it holds much of."""
    held: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        for label, volume in volumes.get(case.id, {}).items():
            if volume > 0:
                held[label].append(volume)
    bound = {label: float(np.quantile(values, LARGE)) for label, values in held.items()}
    known: dict[str, list[str]] = {}
    for case in cases:
        own = {label: volume for label, volume in volumes.get(case.id, {}).items() if volume > 0}
        known[case.id] = [f"site {case.site}"] if case.site else []
        known[case.id] += [f"has {label}" for label in own]
        known[case.id] += [f"much {label}" for label, volume in own.items() if volume > bound[label]]
    return known


def _order(sizes: Mapping[str, int], seed: int) -> list[str]:
    """Patients, largest first; among equals by a hash of seed and name, which no machine or version changes."""
    return sorted(sizes, key=lambda group: (-sizes[group], hashlib.sha256(f"{seed}/{group}".encode()).digest()))


def _table(groups: Sequence[str], cases: Sequence[Case], traits: Mapping[str, list[str]]) -> NDArray[np.float64]:
    """``(patients, traits)``: of each patient how many cases have a trait, by the root of how many there are in all."""
    names = sorted({name for known in traits.values() for name in known})
    row, column = {group: n for n, group in enumerate(groups)}, {name: n for n, name in enumerate(names)}
    table = np.zeros((len(groups), len(names)))
    for case in cases:
        for name in traits[case.id]:
            table[row[case.group], column[name]] += 1
    weighed: NDArray[np.float64] = table / np.sqrt(np.maximum(table.sum(axis=0), 1))
    return weighed


def _dealt(count: NDArray[np.int64], table: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The fold of each patient: among those with fewest cases the one that lacks most what the patient has."""
    filled = np.zeros(k, dtype=np.int64)
    sums = np.zeros((k, table.shape[1]))
    places = np.zeros(len(count), dtype=np.int64)
    for n, row in enumerate(table):
        cost = np.where(filled == filled.min(), np.round(sums @ row, _ROUND), np.inf)
        places[n] = int(cost.argmin())
        filled[places[n]] += count[n]
        sums[places[n]] += row
    return places


def _exchange(places: NDArray[np.int64], count: NDArray[np.int64], table: NDArray[np.float64], k: int) -> None:
    """Exchange patients with as many cases between folds, in place, while that spreads the traits more evenly."""
    sums = np.stack([table[places == fold].sum(axis=0) for fold in range(k)])
    better = True
    while better:
        better = False
        for one, row in enumerate(table):
            step = table - row
            change = 2 * (step * (sums[places[one]] - sums[places])).sum(axis=1) + 2 * (step**2).sum(axis=1)
            change = np.where((count == count[one]) & (places != places[one]), np.round(change, _ROUND), 0.0)
            other = int(change.argmin())
            if change[other] < 0:
                sums[places[one]] += step[other]
                sums[places[other]] -= step[other]
                places[one], places[other] = places[other], places[one]
                better = True


def save_folds(folds: Folds, file: Path) -> None:
    """Write the folds."""
    write_json(file, {"seed": folds.seed, "folds": [list(part) for part in folds.parts]})


def load_folds(file: Path, cases: Sequence[Case]) -> Folds:
    """Read folds, ours or nnU-Net's ``splits_final.json``, and check them.

    Args:
        file: ``{"folds": [[ids of the first fold's validation cases], ...]}``, or ``[{"train": [ids], "val": [ids]}, ...]``.
        cases: all that the folds must share out.

    Raises:
        MissingFileError: no such file.
        ManifestError: not folds; an unknown case; a case that is validated never, or twice.
        SplitLeakError: a patient in two folds.
    """
    content = _content(file)
    parts = tuple(tuple(part) for part in (_validated(file, content) if isinstance(content, list) else content["folds"]))
    folds = Folds(parts, content.get("seed") if isinstance(content, dict) else None)
    known = {case.id: case.group for case in cases}
    listed = Counter(id for part in parts for id in part)
    wrong = [f"unknown case '{id}'" for id in listed if id not in known]
    wrong += [f"case '{id}' stands in {count} folds" for id, count in listed.items() if count > 1]
    wrong += [f"case '{id}' stands in none" for id in known if id not in listed]
    if wrong or len(parts) < 2 or not all(parts):
        reason = wrong[0] if wrong else "two folds or more are needed, none of them empty"
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ManifestError(f"{file}: {reason}{more}", remedy="Every case to train on must be in exactly one fold.")
    _refuse_leak(file, parts, known)
    return folds


def _content(file: Path) -> Any:
    """The file's JSON, in one of the two forms."""
    try:
        content = json.loads(read_text(file))
    except ValueError as error:
        raise ManifestError(f"{file}: not valid JSON ({error})") from error
    lists = content.get("folds") if isinstance(content, dict) else None
    if _is_lists(lists) or (isinstance(content, list) and all(isinstance(part, dict) for part in content)):
        return content
    raise ManifestError(f"{file}: holds no folds", remedy='Write {"folds": [[case ids], ...]}, or nnU-Net\'s splits_final.json.')


def _is_lists(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, list) and all(isinstance(id, str) for id in part) for part in value)


def _validated(file: Path, content: list[dict[str, Any]]) -> list[list[str]]:
    """The ``val`` lists, where ``train`` is the rest."""
    if not _is_lists([part.get(side) for part in content for side in ("train", "val")]):
        raise ManifestError(f"{file}: not every fold has a list 'train' and a list 'val'")
    known = {id for part in content for id in part["val"]}
    for number, part in enumerate(content):
        if set(part["train"]) != known - set(part["val"]):
            raise ManifestError(f"{file}: fold {number} does not train on all that it does not validate on")
    return [part["val"] for part in content]


def _refuse_leak(file: Path, parts: Sequence[Sequence[str]], known: Mapping[str, str]) -> None:
    first: dict[str, int] = {}
    for fold, part in enumerate(parts):
        for id in part:
            other = first.setdefault(known[id], fold)
            if other != fold:
                raise SplitLeakError(
                    f"{file}: patient '{known[id]}' stands in folds {other} and {fold}",
                    remedy="Put all cases of a patient in one fold.",
                )
