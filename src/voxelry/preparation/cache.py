"""The cache of prepared cases on disk: written once, resumed after an interruption, read a patch at a time.

An entry is a folder, named by the case and by a key that changes with anything that would change its content: `image.npy`
``(C, *shape)`` float16, `classes.npy` ``(*shape)`` int8 (int16 where there are more than 127), `class_locations.npy`, and
`entry.json`, which records how the case was prepared, from which files, and the checksums of its own files. Where an instance
head is trained, its targets are there too: `parts.npy` and `distance.npy` ``(*shape)`` int8. In the second stage of a cascade
`first_stage-<key>.npy` lies beside them: the class indices that the first stage predicted.

Entries appear whole or not at all, and a valid one is never changed: several runs may share a cache and fill it together.

Half floats keep 11 bits of each value, whatever its size: normalised CT within a thousandth of a standard deviation, well below
its noise, and the bright outliers of MR as well, where 16-bit integers would leave few steps for all other values.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.files import atomic_folder, atomic_path
from voxelry.base.malloc import installed_memory
from voxelry.base.memory import Footprint
from voxelry.base.memory_gate import MemoryGate
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.base.threads import THREADS
from voxelry.base.version import __version__
from voxelry.core.geometry import Geometry
from voxelry.core.instance_form import InstanceForm
from voxelry.core.label_combinations import LabelCombinations
from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.plan import Plan
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.errors import VoxelryError
from voxelry.formats.dicom.archive import archive_of
from voxelry.preparation.class_locations import class_counts, class_locations
from voxelry.preparation.instance_ids import object_ids, resample_ids
from voxelry.preparation.instance_targets import InstanceTargets, instance_targets
from voxelry.preparation.mapped_array import MappedArray, checksum, store_array
from voxelry.preparation.preparation import Preparation, prepare, reordering

log = logging.getLogger(__name__)

Array = NDArray[Any] | MappedArray
Load = Callable[[], tuple[Volume, LabelMap | None]]

ENTRY_FILE = "entry.json"
MOST_AT_ONCE = 4
"""Cases prepared side by side; each keeps the pool's threads busy for most of its time."""

_LAYOUT = 4
_PLAN_FIELDS = {
    "channels", "reference_channel", "slice_axis", "orientation", "spacing", "long_side", "image_order", "coarse_axis",
    "normalisation", "convention",
}  # fmt: skip
"""Of a plan, which are part of the key."""
_HEAD_FIELDS = {"labels", "border", "erosion", "coarse_axis"}
"""Of the plan of an instance head, which are part of the key."""
_CODE = (
    "formats/**/*.py", "datasets/channels.py", "datasets/load.py", "datasets/resample_to_grid.py", "preparation/*.py",
    "core/geometry.py", "core/volume.py", "core/labels.py", "core/label_combinations.py",
)  # fmt: skip
"""Modules whose text is part of the key: another way to read or to prepare gives another entry."""

_LOCATIONS = "class_locations.npy"
_PARTS, _DISTANCE = "parts.npy", "distance.npy"
_FIRST_STAGE = "first_stage-{}.npy"


@dataclass(frozen=True, eq=False)
class CachedCase:
    """One prepared case; its arrays may be files, of which indexing reads a part.

    Attributes:
        id: the case.
        image: ``(C, *shape)`` float16.
        classes: ``(*shape)`` int8 or int16 class indices of labels, of combinations of labels where these lie on several layers
            (`voxelry.core.label_combinations`); `IGNORE_INDEX` where nothing is known.
        class_locations: class index -> ``(n, axes)`` voxels of that class, thinned (`voxelry.preparation.class_locations`).
        counts: class index -> number of all voxels of that class; empty takes the lengths of `class_locations`.
        first_stage: ``(*shape)`` class indices that the first stage of a cascade predicted; None without one.
        home: the entry's folder, None for a case in memory.
        checksum: of the file of `image`; None for a case in memory.
        targets: of the instance head; None without one.
    """

    id: str
    image: Array = field(repr=False)
    classes: Array = field(repr=False)
    class_locations: Mapping[int, Array] = field(repr=False)
    counts: Mapping[int, int] = field(default_factory=dict, repr=False)
    first_stage: Array | None = field(default=None, repr=False)
    home: Path | None = None
    checksum: int | None = None
    targets: InstanceTargets | None = field(default=None, repr=False)

    def count(self, index: int) -> int:
        """Number of voxels of a class."""
        return self.counts.get(index, len(self.class_locations.get(index, ())))


def cached_cases(
    cases: Sequence[Case],
    plan: Plan,
    table: LabelTable,
    folder: Path,
    load: Callable[[Case], tuple[Volume, LabelMap | None]],
    progress: ProgressCallback = no_progress,
    form: InstanceForm | None = None,
) -> list[CachedCase]:
    """Prepared cases, several in parallel where cores and half of the machine's memory allow.

    Args:
        cases: the cases.
        plan: how to prepare.
        table: the labels.
        folder: folder of the whole cache.
        load: reads a case's image and labels.
        progress: called as cases are prepared.
        form: how the dataset's card tells objects apart, part of the key.

    Returns:
        In the order of `cases`.

    Raises:
        VoxelryError: a case cannot be read or prepared; cases not begun are cancelled.
    """
    gate = MemoryGate(installed_memory() // 2)
    with ThreadPoolExecutor(max(1, min(MOST_AT_ONCE, THREADS // 2)), thread_name_prefix="prepare") as workers:
        futures: list[Future[CachedCase]] = [
            workers.submit(cached_case, case, plan, table, folder, partial(load, case), gate, form) for case in cases
        ]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                progress("preparing cases", done, len(cases))
        finally:
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]


def cached_case(
    case: Case,
    plan: Plan,
    table: LabelTable,
    folder: Path,
    load: Load,
    gate: MemoryGate | None = None,
    form: InstanceForm | None = None,
) -> CachedCase:
    """The prepared case, from `folder` if it has a valid entry, else prepared and written.

    Args:
        case: the case; its files' sizes and times are part of the key.
        plan: how to prepare.
        table: the labels.
        folder: folder of the whole cache.
        load: reads the case's image and labels.
        gate: limits the memory of all preparations together.
        form: how the dataset's card tells objects apart, part of the key.
    """
    home = folder / case.id / _key(case, plan, table, form)
    entry = _valid_entry(home)
    if entry is None:
        if home.exists():
            log.warning("%s: damaged or out of date, prepared again", home)
        volume, labels = load()
        with (gate or MemoryGate(0)).hold(_footprint(volume, plan).total):
            _write(home, plan, table, volume, labels)
        entry = _valid_entry(home)
        if entry is None:
            raise VoxelryError(f"{home}: changes while it is written", remedy="Do not copy or edit its files during a run.")
    return _opened(case.id, home, entry)


def with_first_stage(case: CachedCase, plan: Plan, identity: str, predict: Callable[[], LabelMap]) -> CachedCase:
    """A cached case with the labels that the first stage of a cascade predicted, on the grid of the second.

    Args:
        case: from the cache.
        plan: plan of the second stage, by which the case was prepared.
        identity: identity of the first stage, such as a hash of its weights; part of the file's name.
        predict: gives the labels on the scan's own grid; called only where they are not in the cache.

    Returns:
        The case with `first_stage`.

    Raises:
        GridMismatchError: the labels lie on another grid.
    """
    assert case.home is not None
    file = case.home / _FIRST_STAGE.format(hashlib.sha256(identity.encode()).hexdigest()[:16])
    stored = _array(file)
    if stored is None or stored.shape != case.classes.shape:
        entry = _valid_entry(case.home) or {}
        preparation = _preparation(entry, plan)
        labels = predict().on_grid(preparation.source)
        classes = labels.table.to_classes(labels.array, labels.source.name)
        with atomic_path(file) as temporary:
            store_array(temporary, np.maximum(preparation.classes(classes), 0), _type_of(labels.table))
        stored = MappedArray.of(file)
    return replace(case, first_stage=stored)


def _write(home: Path, plan: Plan, table: LabelTable, volume: Volume, labels: LabelMap | None) -> None:
    preparation, combinations = prepare(volume, plan), LabelCombinations(table)
    if labels is None:
        classes, targets = np.full(preparation.shape, IGNORE_INDEX, np.int16), None
    else:
        planes = combinations.planes(labels)
        prepared = [preparation.classes(plane) for plane in planes]
        classes, targets = combinations.joined(prepared), _targets(preparation, labels, planes, prepared)
    locations = class_locations(classes, combinations.count)
    files = [Path(file) for source in (volume, labels) if source is not None for file in source.source.files]
    sources = {archive_of(file) or file for file in files}
    entry = {
        "counts": class_counts(classes, combinations.count),
        "class_locations": {index: len(voxels) for index, voxels in locations.items()},
        "grid": _grid_record(preparation.source),
        "start": preparation.start,
        "extent": preparation.extent,
        "shape": preparation.shape,
        "read": {str(file): _stamp(file) for file in sorted(sources) if file.is_file()},
    }
    with atomic_folder(home, keep=lambda folder: _valid_entry(folder) is not None) as temporary:
        store_array(temporary / "image.npy", preparation.image(volume), np.float16)
        store_array(temporary / "classes.npy", classes, _type_of(table))
        if targets is not None:
            store_array(temporary / _PARTS, np.asarray(targets.parts), np.int8)
            store_array(temporary / _DISTANCE, np.asarray(targets.distance), np.int8)
        if any(map(len, locations.values())):
            store_array(temporary / _LOCATIONS, np.concatenate(list(locations.values())), np.int32)
        entry["files"] = {file.name: [*_stamp(file), checksum(file)] for file in sorted(temporary.iterdir())}
        (temporary / ENTRY_FILE).write_text(json.dumps(entry))


def _targets(
    preparation: Preparation, labels: LabelMap, planes: Sequence[NDArray[np.int16]], prepared: Sequence[NDArray[np.int16]]
) -> InstanceTargets | None:
    """The targets of the instance head, where the plan has one; its objects lie on one layer.

    Args:
        preparation: from the scan's grid to the network's.
        labels: on the scan's grid.
        planes: the labels of each of their layers (`LabelCombinations.planes`).
        prepared: the same on the network's grid.
    """
    plan = preparation.plan.instances
    if plan is None or not plan.head_channels:
        return None
    layer = labels.table[plan.labels[0]].layer
    objects, before = preparation.box(object_ids(labels, plan.labels)), preparation.box(planes[layer])
    ids = resample_ids(objects, before, prepared[layer], labels.source.name)
    return instance_targets(ids, preparation.geometry.spacing or (1.0,) * ids.ndim, plan)


def _opened(name: str, home: Path, entry: dict[str, Any]) -> CachedCase:
    locations: dict[int, Array] = {}
    rows = _array(home / _LOCATIONS) if _LOCATIONS in entry["files"] else None
    begin = 0
    for index, number in entry["class_locations"].items():
        locations[int(index)] = rows.rows(begin, begin + number) if rows else np.empty((0, len(entry["shape"])), np.int32)
        begin += number
    counts = {int(index): number for index, number in entry["counts"].items()}
    image, classes = (MappedArray.of(home / name) for name in ("image.npy", "classes.npy"))
    has_targets = _PARTS in entry["files"]
    targets = InstanceTargets(*(MappedArray.of(home / name) for name in (_PARTS, _DISTANCE))) if has_targets else None
    checksum = entry["files"]["image.npy"][2]
    return CachedCase(name, image, classes, locations, counts, home=home, checksum=checksum, targets=targets)


def _valid_entry(home: Path) -> dict[str, Any] | None:
    """The content of `entry.json`; None where an entry is missing, damaged, or made from files that have changed since.

    A file whose time is not the recorded one (in a copy of the cache, or after an edit) is read whole to check it.
    """
    try:
        entry: dict[str, Any] = json.loads((home / ENTRY_FILE).read_text())
        for name, (size, time, crc) in entry["files"].items():
            stamp = _stamp(home / name)
            if stamp[0] != size or (stamp[1] != time and checksum(home / name) != crc):
                return None
        if any(_stamp(Path(file)) != stamp for file, stamp in entry["read"].items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry


def _array(file: Path) -> MappedArray | None:
    """An array in a file, None where it is missing or cut short."""
    try:
        return MappedArray.of(file)
    except (OSError, ValueError):
        return None


def _type_of(table: LabelTable) -> type[np.int8] | type[np.int16]:
    """The smallest type for the class indices of a table, or for those of its combinations."""
    return np.int8 if LabelCombinations(table).count <= np.iinfo(np.int8).max + 1 else np.int16


def _footprint(volume: Volume, plan: Plan) -> Footprint:
    """Memory that preparing a case takes."""
    zoom = 1.0
    if plan.spacing is not None and volume.spacing is not None:
        order = reordering(volume.geometry, plan.orientation).order
        spacing = (volume.spacing[axis] for axis in order)
        zoom = math.prod(before / after for before, after in zip(spacing, plan.spacing, strict=True) if after is not None)
    voxels = math.prod(volume.geometry.shape)
    prepared = int(voxels * zoom)
    return Footprint(
        {
            "scan": 4 * volume.channels * voxels,
            "prepared scan": 4 * volume.channels * prepared,
            "class indices on both grids": 4 * (voxels + prepared),
        }
    )


def _grid_record(grid: Geometry) -> dict[str, Any]:
    """A grid as JSON keeps it."""
    affine = None if grid.affine is None else grid.affine.tolist()
    return {"shape": grid.shape, "affine": affine, "pixel_size": grid.pixel_size}


def _preparation(entry: dict[str, Any], plan: Plan) -> Preparation:
    """The preparation that an entry records."""
    grid, pixel = entry["grid"], entry["grid"]["pixel_size"]
    affine = None if grid["affine"] is None else np.array(grid["affine"])
    source = Geometry(tuple(grid["shape"]), affine, None if pixel is None else (pixel[0], pixel[1]))
    box = (tuple(entry[name]) for name in ("start", "extent", "shape"))
    return Preparation(plan, source, reordering(source, plan.orientation), *box)


def _key(case: Case, plan: Plan, table: LabelTable, form: InstanceForm | None) -> str:
    stamps: list[Any] = [(str(file), *_stamps(file)) for file in (*case.images, *case.label_files)]
    steps = plan.model_dump(mode="json", include=_PLAN_FIELDS)
    if plan.instances is not None and plan.instances.head_channels:
        steps["instances"] = plan.instances.model_dump(mode="json", include=_HEAD_FIELDS)
    told = None if form is None else form.model_dump(mode="json")
    content = json.dumps([_LAYOUT, _code_hash(), stamps, steps, table.model_dump(mode="json"), told], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


@cache
def _code_hash() -> str:
    """A hash of the version and of the text of every module that reads or prepares."""
    digest = hashlib.sha256(__version__.encode())
    package = Path(__file__).parents[1]
    for file in sorted(file for pattern in _CODE for file in package.glob(pattern)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _stamps(file: Path) -> list[Any]:
    """Size and time of a file, or name, size and time of every file in a folder."""
    if not file.is_dir():
        return _stamp(file)
    return [(inner.relative_to(file).as_posix(), *_stamp(inner)) for inner in sorted(file.rglob("*")) if inner.is_file()]


def _stamp(file: Path) -> list[int]:
    """Size and time of a file."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
