"""Folds of a cross-validation: whole patients, equal sizes, labels and sites spread evenly, the same on every machine.

The folds depend only on the set of cases, their labels and sites, and the seed.
"""

from __future__ import annotations

import hashlib
import json
import logging
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

log = logging.getLogger(__name__)

FOLDS_FILE = "folds.json"
_ALWAYS = "always_trained"
_SHOWN = 5

LARGE = 0.5
"""A case with a label counts as having much of it where its volume is above this quantile of the cases that have it."""
_SWAPPED = 2000
"""Up to this number of patients, pairs are swapped between folds while that improves them; with more, dealing alone is close."""
_ROUND = 9
"""Decimals to which costs are compared, so that every machine decides alike."""


@dataclass(frozen=True)
class Folds:
    """The folds of a cross-validation: the cases that each holds out.

    Attributes:
        parts: for each fold the ids of the cases that it validates on, in the order of the cases.
        seed: they were made with, None for folds from elsewhere.
        always_trained: ids of the cases that every fold trains on and none holds out.

    Example:
        >>> from voxelry.training import Folds
        >>> len(Folds((("scan0", "scan1"), ("scan2",))))
        2
    """

    parts: tuple[tuple[str, ...], ...]
    seed: int | None = None
    always_trained: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.parts)

    def of(self, case: Case) -> int:
        """The fold that holds a case out, which one must."""
        return next(number for number, ids in enumerate(self.parts) if case.id in ids)

    def sides(self, fold: int, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        """The cases that a fold trains on, and those it validates on, in the order of `cases`."""
        held_out = set(self.parts[fold])
        return [case for case in cases if case.id not in held_out], [case for case in cases if case.id in held_out]


def folds_to_train(fold: int | None, count: int) -> Sequence[int]:
    """The folds that a command trains: the one that it names, or all.

    Args:
        fold: from 0; None means all.
        count: number of the run's folds, 0 without cross-validation.

    Raises:
        UsageError: the fold does not exist.
    """
    if fold is None:
        return range(count)
    if not count:
        raise UsageError(f"fold {fold} of a run without folds", remedy="Give their number, as --folds 5.")
    if not 0 <= fold < count:
        raise UsageError(f"fold {fold} of {count}", remedy=f"Folds are counted from 0 to {count - 1}.")
    return [fold]


def make_folds(cases: Sequence[Case], k: int, seed: int = 0, volumes: Mapping[str, Mapping[str, float]] | None = None) -> Folds:
    """Divide cases into k folds.

    Patients are dealt by their number of cases, largest first, each to one of the folds with the fewest cases; so two folds
    differ by at most the cases of the largest patient. Among these folds the one is taken that spreads traits (sites, labels that
    occur, labels of large volume) most evenly, and patients with equally many cases are swapped afterwards while that improves
    it. The measure is the sum over traits of squared deviations from an even share, each relative to the trait's frequency (as
    chi square; the aim of Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10).

    Args:
        cases: the cases to divide; their own splits are ignored.
        k: number of folds, at least 2 and at most the number of patients.
        seed: breaks ties.
        volumes: case id -> label name -> its volume in the case, in any unit.

    Returns:
        The folds.

    Raises:
        ManifestError: k does not fit the number of patients.

    Example:
        >>> from pathlib import Path
        >>> from voxelry import Case
        >>> from voxelry.training import make_folds
        >>> cases = [Case(f"scan{n}", (Path(f"scan{n}.nii.gz"),), group=f"patient{n // 2}") for n in range(6)]
        >>> folds = make_folds(cases, 3)
        >>> sorted(len(ids) for ids in folds.parts)  # both scans of a patient are in one fold
        [2, 2, 2]
    """
    sizes = Counter(case.group for case in cases)
    if not 2 <= k <= len(sizes):
        raise ManifestError(f"{k} folds of {len(sizes)} patients", remedy=f"Choose 2 to {len(sizes)} folds.")
    traits = _traits(cases, volumes or {})
    groups = _order(sizes, seed)
    table = _table(groups, cases, traits)
    count = np.array([sizes[group] for group in groups])
    fold_numbers = _dealt(count, table, k)
    if len(groups) <= _SWAPPED:
        _swap(fold_numbers, count, table, k)
    fold_of = dict(zip(groups, fold_numbers.tolist(), strict=True))
    return Folds(tuple(tuple(case.id for case in cases if fold_of[case.group] == fold) for fold in range(k)), seed)


def _traits(cases: Sequence[Case], volumes: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """Case id -> its traits: site, labels that occur, labels of large volume."""
    label_volumes: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        for label, volume in volumes.get(case.id, {}).items():
            if volume > 0:
                label_volumes[label].append(volume)
    bound = {label: float(np.quantile(values, LARGE)) for label, values in label_volumes.items()}
    traits: dict[str, list[str]] = {}
    for case in cases:
        present = {label: volume for label, volume in volumes.get(case.id, {}).items() if volume > 0}
        traits[case.id] = [f"site {case.site}"] if case.site else []
        traits[case.id] += [f"has {label}" for label in present]
        traits[case.id] += [f"much {label}" for label, volume in present.items() if volume > bound[label]]
    return traits


def _order(sizes: Mapping[str, int], seed: int) -> list[str]:
    """Patients, largest first; among equals by a hash of seed and name, which is the same on every machine and version."""
    return sorted(sizes, key=lambda group: (-sizes[group], hashlib.sha256(f"{seed}/{group}".encode()).digest()))


def _table(groups: Sequence[str], cases: Sequence[Case], traits: Mapping[str, list[str]]) -> NDArray[np.float64]:
    """``(patients, traits)``: a patient's number of cases with a trait, divided by the root of the number in all."""
    names = sorted({name for own in traits.values() for name in own})
    row, column = {group: n for n, group in enumerate(groups)}, {name: n for n, name in enumerate(names)}
    table = np.zeros((len(groups), len(names)))
    for case in cases:
        for name in traits[case.id]:
            table[row[case.group], column[name]] += 1
    weighted: NDArray[np.float64] = table / np.sqrt(np.maximum(table.sum(axis=0), 1))
    return weighted


def _dealt(count: NDArray[np.int64], table: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The fold of each patient: among those with fewest cases the one that has least of the patient's traits."""
    filled = np.zeros(k, dtype=np.int64)
    sums = np.zeros((k, table.shape[1]))
    fold_numbers = np.zeros(len(count), dtype=np.int64)
    for n, row in enumerate(table):
        cost = np.where(filled == filled.min(), np.round(sums @ row, _ROUND), np.inf)
        fold = fold_numbers[n] = int(cost.argmin())
        filled[fold] += count[n]
        sums[fold] += row
    return fold_numbers


def _swap(fold_numbers: NDArray[np.int64], count: NDArray[np.int64], table: NDArray[np.float64], k: int) -> None:
    """Swap patients with equally many cases between folds, in place, while that spreads the traits more evenly."""
    sums = np.stack([table[fold_numbers == fold].sum(axis=0) for fold in range(k)])
    better = True
    while better:
        better = False
        for patient, row in enumerate(table):
            difference, own = table - row, fold_numbers[patient]
            change = 2 * (difference * (sums[own] - sums[fold_numbers])).sum(axis=1) + 2 * (difference**2).sum(axis=1)
            change = np.where((count == count[patient]) & (fold_numbers != own), np.round(change, _ROUND), 0.0)
            other = int(change.argmin())
            if change[other] < 0:
                sums[own] += difference[other]
                sums[fold_numbers[other]] -= difference[other]
                fold_numbers[patient], fold_numbers[other] = fold_numbers[other], own
                better = True


def save_folds(folds: Folds, file: Path) -> None:
    """Write folds to a JSON file."""
    content = {"seed": folds.seed, "folds": [list(ids) for ids in folds.parts]}
    write_json(file, content | ({_ALWAYS: list(folds.always_trained)} if folds.always_trained else {}))


def load_folds(file: Path, cases: Sequence[Case]) -> Folds:
    """Read folds from our file or nnU-Net's ``splits_final.json``, and check them.

    Args:
        file: ``{"folds": [[ids of the first fold's validation cases], ...]}``, perhaps with ``always_trained``, ids that no fold
            holds out; or ``[{"train": [ids], "val": [ids]}, ...]``, where a case may likewise be in every ``train``.
        cases: the cases that the folds must cover.

    Raises:
        MissingFileError: no such file.
        ManifestError: the file holds no folds; an unknown case; a case that some fold does not use, or that two hold out.
        SplitLeakError: a patient in two folds, or held out and trained on in one.

    Example:
        >>> from pathlib import Path
        >>> from voxelry import Case
        >>> from voxelry.training import load_folds
        >>> cases = [Case(f"scan{n}", (Path(f"scan{n}.nii.gz"),), group=f"patient{n}") for n in range(4)]
        >>> _ = Path("folds.json").write_text('{"folds": [["scan0", "scan1"], ["scan2", "scan3"]]}')
        >>> len(load_folds(Path("folds.json"), cases))
        2
    """
    content = _content(file)
    folds = _of_nnunet(file, content) if isinstance(content, list) else _of_ours(content)
    known = {case.id: case.group for case in cases}
    held_out = Counter(id for ids in folds.parts for id in ids)
    listed = held_out + Counter(folds.always_trained)
    problems = [f"unknown case '{id}'" for id in listed if id not in known]
    problems += [f"case '{id}' is in {count} folds" for id, count in held_out.items() if count > 1]
    problems += [f"case '{id}' is held out, and always trained on" for id in folds.always_trained if id in held_out]
    problems += [f"case '{id}' is in no fold" for id in known if id not in listed]
    if problems or len(folds) < 2 or not all(folds.parts):
        reason = problems[0] if problems else "two folds or more are needed, none of them empty"
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise ManifestError(f"{file}: {reason}{more}", remedy="Every case to train on must be in exactly one fold.")
    _refuse_leak(file, folds, known)
    return folds


def _content(file: Path) -> Any:
    """The file's JSON, in one of the two layouts."""
    try:
        content = json.loads(read_text(file))
    except ValueError as error:
        raise ManifestError(f"{file}: not valid JSON ({error})") from error
    is_ours = isinstance(content, dict) and _is_lists(content.get("folds")) and _is_lists([content.get(_ALWAYS, [])])
    if is_ours or (isinstance(content, list) and all(isinstance(entry, dict) for entry in content)):
        return content
    raise ManifestError(f"{file}: holds no folds", remedy='Write {"folds": [[case ids], ...]}, or nnU-Net\'s splits_final.json.')


def _is_lists(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(ids, list) and all(isinstance(id, str) for id in ids) for ids in value)


def _of_ours(content: dict[str, Any]) -> Folds:
    return Folds(tuple(tuple(ids) for ids in content["folds"]), content.get("seed"), tuple(content.get(_ALWAYS, ())))


def _of_nnunet(file: Path, content: list[dict[str, Any]]) -> Folds:
    """The folds of nnU-Net's layout: each uses every case of the file, to train or to validate."""
    if not _is_lists([entry.get(side) for entry in content for side in ("train", "val")]):
        raise ManifestError(f"{file}: not every fold has a list 'train' and a list 'val'")
    every = dict.fromkeys(id for entry in content for side in ("train", "val") for id in entry[side])
    for number, entry in enumerate(content):
        training, validation = set(entry["train"]), set(entry["val"])
        both = [id for id in every if id in training & validation]
        if both:
            raise SplitLeakError(f"{file}: fold {number} both trains on and validates '{both[0]}'", remedy="Take it out of one.")
        unused = [id for id in every if id not in training | validation]
        if unused:
            more = f", nor {len(unused) - 1} more" if len(unused) > 1 else ""
            raise ManifestError(
                f"{file}: fold {number} neither trains on nor validates '{unused[0]}'{more}, which other folds use",
                remedy="Add it to the fold's 'train' or 'val'.",
            )
    held_out = {id for entry in content for id in entry["val"]}
    always = tuple(id for id in every if id not in held_out)
    if always:
        shown = ", ".join(always[:_SHOWN]) + (" ..." if len(always) > _SHOWN else "")
        log.warning("%s: %d cases are trained on by every fold and validated by none: %s", file, len(always), shown)
    return Folds(tuple(tuple(entry["val"]) for entry in content), None, always)


def _refuse_leak(file: Path, folds: Folds, known: Mapping[str, str]) -> None:
    trained = {known[id] for id in folds.always_trained}
    first: dict[str, int] = {}
    for fold, ids in enumerate(folds.parts):
        for id in ids:
            if known[id] in trained:
                raise SplitLeakError(
                    f"{file}: patient '{known[id]}' is held out by fold {fold}, which trains on another case of the patient",
                    remedy="Put all cases of a patient in one fold.",
                )
            other = first.setdefault(known[id], fold)
            if other != fold:
                raise SplitLeakError(
                    f"{file}: patient '{known[id]}' is in folds {other} and {fold}",
                    remedy="Put all cases of a patient in one fold.",
                )
