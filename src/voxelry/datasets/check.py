"""Checks a dataset before training: every case is opened, and problems are listed, not raised."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from voxelry.base.listing import counted, shown
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.instance_form import InstanceForm
from voxelry.core.label_boxes import boxes
from voxelry.core.object_statistics import ObjectStatistics
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.duplicates import LEAK_REMEDY, voxel_digest
from voxelry.datasets.load import CaseReference, load_image, read_reference
from voxelry.datasets.manifest import Manifest
from voxelry.errors import NonFiniteError, VoxelryError
from voxelry.metrics.object_sizes import ObjectSizes, object_sizes, summarise

Kind = Literal["error", "note"]


@dataclass(frozen=True)
class Problem:
    """One problem of a case, or of the whole set.

    Attributes:
        case: its id; empty for a problem of the set.
        file: the file concerned.
        message: the problem, the value, the remedy.
        kind: an ``error`` keeps the case, or the set, from being used; a ``note`` is worth a look.
    """

    case: str
    file: str
    message: str
    kind: Kind = "error"


class Problems(list[Problem]):
    """The problems of a dataset, those of the whole set first, and what was looked at.

    Attributes:
        cases: number of cases.
        counts: the cases of each split in words, such as ``9 train, 3 val``.
        objects: number, size and contacts of the objects of each thing, over all labelled cases.
        instances: how they were told apart, in words; empty without things.
    """

    def __init__(
        self,
        problems: Iterable[Problem],
        manifest: Manifest,
        objects: Mapping[str, ObjectStatistics] | None = None,
        instances: str = "",
    ) -> None:
        super().__init__(problems)
        self.cases, self.counts = len(manifest.cases), manifest.counts
        self.objects, self.instances = dict(objects or {}), instances

    @property
    def usable(self) -> int:
        """Cases without an error."""
        return self.cases - len({problem.case for problem in self if problem.case and problem.kind == "error"})


@dataclass
class _Survey:
    """What the cases of a set have, gathered while they are checked one by one.

    Attributes:
        digests: digest of an image -> its cases.
        labels: name of a label -> splits of the cases that have it.
        empty: training cases without a labelled voxel.
        labelled: number of training cases whose labels were read.
        objects: the objects of each case.
        trained: the things of which a training case has an object.
        forms: how objects were told apart.
    """

    digests: dict[str, list[Case]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    empty: list[str] = field(default_factory=list)
    labelled: int = 0
    objects: list[dict[str, ObjectSizes]] = field(default_factory=list)
    trained: set[str] = field(default_factory=set)
    forms: set[InstanceForm] = field(default_factory=set)

    def add_image(self, case: Case, volume: Volume) -> None:
        digest = voxel_digest(volume)
        if digest:
            self.digests[digest].append(case)

    def add_labels(self, case: Case, reference: CaseReference) -> list[str]:
        """Note which labels and objects a case has, and give the names of the labels."""
        labels = reference.labels
        self.forms |= {reference.form} if reference.form else set()
        names = [label.name for label, box in boxes(labels, str(case.named_file)) if box is not None]
        for name in names:
            self.labels[name][case.split or ""] += 1
        self.objects.append(object_sizes(labels))
        if case.split == "train":
            self.trained |= {name for name, sizes in self.objects[-1].items() if len(sizes.ids)}
            self.labelled += 1
            self.empty += [] if names else [case.id]
        return names


Visitor = Callable[[Case, Volume, LabelMap | None], None]
"""Is handed each case that can be read: the case, its image, and its reference if it has one."""


def check_manifest(
    manifest: Manifest, *, deep: bool = False, visit: Visitor | None = None, progress: ProgressCallback = no_progress
) -> Problems:
    """Open every case and list the problems.

    Checked: files are readable, channels and axes are the card's, image and labels share a grid (axes may be flipped or
    permuted), label values are known, labels are not empty (a note). Of the whole set: there are cases, patterns leave nothing
    over (a note), every label occurs in training (a note), and something does; an image is not on two sides of a split under two
    ids.

    Args:
        manifest: the dataset.
        deep: decode the images too: look for NaN and infinite voxels, for images of a single value and for the same voxels
            under two ids; without it only their headers are read.
        visit: called with each case that can be read, while it is in memory.
        progress: called as cases are opened.

    Returns:
        The problems of the set, then of the cases in their order; empty when all is well.

    Examples:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> path = write_phantoms("phantoms", "torso-ct", 2, val=1, acquisition=coarse)
        >>> from voxelry.datasets import check_manifest, load_manifest
        >>> check_manifest(load_manifest(path))
        []
    """
    survey = _Survey()
    problems: list[Problem] = []
    for number, case in enumerate(manifest.cases, start=1):
        problems += _check(case, manifest, deep, survey, visit)
        progress("checking", number, len(manifest.cases))
    things = [label.name for label in manifest.card.labels if label.kind == "thing"] if survey.objects else []
    objects = {name: summarise(survey.objects, name) for name in things}
    return Problems([*_of_the_set(manifest, survey), *problems], manifest, objects, _forms_in_words(manifest, survey))


def check_case(case: Case, manifest: Manifest, *, deep: bool = False) -> list[Problem]:
    """Check one case: the problems that `check_manifest` lists for it."""
    return _check(case, manifest, deep, _Survey())


def _check(case: Case, manifest: Manifest, deep: bool, survey: _Survey, visit: Visitor | None = None) -> list[Problem]:
    notes = []
    try:
        volume = load_image(case, manifest.card)
        if deep:
            notes = _check_voxels(case, volume)
            survey.add_image(case, volume)
    except VoxelryError as error:
        return [Problem(case.id, str(case.images[0]), str(error))]
    visit = visit or _pass_by
    if not case.has_labels:
        visit(case, volume, None)
        needed = case.split in ("train", "val")
        return [*notes, *([Problem(case.id, str(case.images[0]), f"no labels, but it is in {case.split}")] if needed else [])]
    file = str(case.named_file)
    try:
        reference = read_reference(case, manifest.card, volume.geometry)
    except VoxelryError as error:
        return [Problem(case.id, file, str(error)), *notes]
    assert reference is not None
    visit(case, volume, reference.labels)
    notes += [Problem(case.id, file, remark, "note") for remark in reference.remarks]
    if not survey.add_labels(case, reference):
        notes.append(Problem(case.id, file, f"holds no labelled voxel: {_values(reference.labels)}", "note"))
    return notes


def _pass_by(case: Case, volume: Volume, labels: LabelMap | None) -> None:
    """The visitor that does nothing."""


def _check_voxels(case: Case, volume: Volume) -> list[Problem]:
    """Refuse voxels that are no numbers, and note channels of a single value."""
    if not np.isfinite(volume.array).all():
        raise NonFiniteError(f"{case.images[0]}: NaN or infinite voxels", remedy="Repair the file, or leave the case out.")
    notes = []
    for number, channel in enumerate(volume.array):
        if channel.size and (channel == channel.flat[0]).all():
            file = str(case.images[number if len(case.images) > 1 else 0])
            which = f" of channel {number}" if volume.channels > 1 else ""
            notes.append(Problem(case.id, file, f"every voxel{which} is {channel.flat[0]:g}: nothing can be told apart", "note"))
    return notes


def _values(labels: LabelMap) -> str:
    """The values of a map without a label, in words."""
    ignored = labels.table.ignore is not None and bool((labels.layers == labels.table.ignore).any())
    if not ignored:
        return "all are 0"
    return f"all are {labels.table.ignore}, which is ignored, or 0" if (labels.layers == 0).any() else "all are ignored"


def _forms_in_words(manifest: Manifest, survey: _Survey) -> str:
    """How objects were told apart; what was assumed is said."""
    assumed = ", since the card has no key `instances`" if manifest.card.instances is None else ""
    forms = sorted(survey.forms, key=lambda form: form.form)
    return " or ".join(form.in_words + (assumed if form.form == "components" else "") for form in forms)


def _of_the_set(manifest: Manifest, survey: _Survey) -> list[Problem]:
    file = str(manifest.path)
    if not manifest.cases:
        return [Problem("", file, "the card lists no cases. Add `cases`: rows, a table, or patterns of files.")]
    problems = [Problem("", file, remark, "note") for remark in manifest.remarks]
    training = [case for case in manifest.split("train") if case.has_labels]
    if not training:
        problems.append(Problem("", file, "no case to train on: none in 'train' has labels", "note"))
    elif survey.labelled and len(survey.empty) == survey.labelled:
        message = f"nothing to learn: none of {counted(survey.labelled, 'training mask', 'training masks')} has a labelled voxel"
        problems.append(Problem("", file, f"{message}. Check the masks, and the values of the card's labels."))
    elif survey.labelled:
        problems += [Problem("", file, message, "note") for message in _absent(manifest, survey)]
    return [*problems, *_duplicates(survey, file)]


def _absent(manifest: Manifest, survey: _Survey) -> list[str]:
    """Sentences about labels that no training case has."""
    messages = []
    for label in manifest.card.labels:
        splits = survey.labels[label.name]
        if not splits["train"]:
            elsewhere = ", ".join(f"{count} in {split or 'no split'}" for split, count in splits.items() if count)
            where = f" (others have it: {elsewhere})" if elsewhere else ""
            total = counted(survey.labelled, "training case", "training cases")
            messages.append(f"label '{label.name}' ({label.value}) is in none of {total}{where}, so it cannot be learnt")
        elif label.kind == "thing" and label.name not in survey.trained:
            messages.append(
                f"thing '{label.name}' ({label.value}) has voxels but no object in any training case, so its objects cannot be "
                "learnt: give its voxels ids, or make it `kind: stuff`"
            )
    return messages


def _duplicates(survey: _Survey, file: str) -> list[Problem]:
    """Images that stand under several ids: an error where these are on two sides of a split."""
    problems = []
    for cases in survey.digests.values():
        if len(cases) < 2:
            continue
        listed = shown([f"{case.id} ({case.split or 'no split'})" for case in cases])
        is_leak = len({case.split for case in cases} - {None}) > 1
        remedy = f". {LEAK_REMEDY}" if is_leak or len({case.group for case in cases}) > 1 else ""
        message = f"{len(cases)} cases are the same image: {listed}{remedy}"
        problems.append(Problem("", file, message, "error" if is_leak else "note"))
    return problems
