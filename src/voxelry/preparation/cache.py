"""Prepared cases on disk, memory-mapped: written once, resumed after an interruption, read a window at a time.

An entry is a folder, named by the case and by a key that changes with anything that would change its content: `image.npy`
``(C, *shape)`` float16, `classes.npy` ``(*shape)`` int8 (int16 for tables of more than 127 labels), `places.npy`, and
`entry.json`, which says how the case was prepared, from which files, and what its own files must look like. In the second stage
of a cascade `previous-<key>.npy` lies beside them: what the first stage found.

Entries appear whole or not at all, and a sound one is never changed: several runs may share a cache, and prepare it together.

Half floats keep 11 bits of each value, whatever its size: normalised CT within a thousandth of a standard deviation, well below
its noise, and the bright outliers of MR as well, for which 16-bit integers would leave everything else a few steps.
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
from voxelry.base.memory_gate import MemoryGate
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.base.threads import THREADS
from voxelry.base.version import __version__
from voxelry.core.geometry import Geometry
from voxelry.core.labels import IGNORE_INDEX, LabelTable
from voxelry.core.plan import Plan
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.errors import VoxelryError
from voxelry.formats.dicom.archive import is_unpacked
from voxelry.preparation.class_locations import class_counts, class_places
from voxelry.preparation.mapped import MappedArray, checksum, store_array
from voxelry.preparation.preparation import Preparation, prepare, reordering

log = logging.getLogger(__name__)

Array = NDArray[Any] | MappedArray
Load = Callable[[], tuple[Volume, LabelMap | None]]

ENTRY_FILE = "entry.json"
MOST_AT_ONCE = 4
"""Cases prepared side by side; each keeps the pool's threads busy for most of its time."""

_LAYOUT = 3
_PREPARED = {
    "channels", "reference_channel", "slice_axis", "orientation", "spacing", "long_side", "image_order", "coarse_axis",
    "normalisation",
}  # fmt: skip
_CODE = (
    "formats/**/*.py", "datasets/channels.py", "datasets/resample_to_grid.py", "preparation/*.py",
    "core/geometry.py", "core/volume.py", "core/labels.py",
)  # fmt: skip
"""Modules whose text is part of the key: another way to read or to prepare gives another entry."""

_PREVIOUS = "previous-{}.npy"


@dataclass(frozen=True, eq=False)
class CachedCase:
    """One prepared case; its arrays may be files, of which indexing reads a part.

    Attributes:
        id: the case.
        image: ``(C, *shape)`` float16.
        classes: ``(*shape)`` int8 or int16 class indices of labels, `IGNORE_INDEX` where nothing is known.
        places: class index -> ``(n, axes)`` voxels of that class (`voxelry.preparation.class_locations`).
        counts: class index -> voxels of that class in all; empty takes the lengths of `places`.
        previous: ``(*shape)`` class indices that the first stage of a cascade found; None without one.
        home: the entry's folder, None for a case in memory.
    """

    id: str
    image: Array = field(repr=False)
    classes: Array = field(repr=False)
    places: Mapping[int, Array] = field(repr=False)
    counts: Mapping[int, int] = field(default_factory=dict, repr=False)
    previous: Array | None = field(default=None, repr=False)
    home: Path | None = None

    def count(self, index: int) -> int:
        """Voxels of a class."""
        return self.counts.get(index, len(self.places.get(index, ())))


def cached_cases(
    cases: Sequence[Case],
    plan: Plan,
    table: LabelTable,
    folder: Path,
    load: Callable[[Case], tuple[Volume, LabelMap | None]],
    progress: ProgressCallback = no_progress,
) -> list[CachedCase]:
    """Prepared cases, several side by side where cores and half of the machine's memory allow.

    Args:
        cases: the cases.
        plan: how to prepare.
        table: the labels.
        folder: of the whole cache.
        load: reads a case's image and labels.
        progress: called as cases are prepared.

    Returns:
        In the order of `cases`.

    Raises:
        VoxelryError: a case cannot be read or prepared; cases not begun are left out.
    """
    gate = MemoryGate(installed_memory() // 2)
    with ThreadPoolExecutor(max(1, min(MOST_AT_ONCE, THREADS // 2)), thread_name_prefix="prepare") as workers:
        futures: list[Future[CachedCase]] = [
            workers.submit(cached_case, case, plan, table, folder, partial(load, case), gate) for case in cases
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
    case: Case, plan: Plan, table: LabelTable, folder: Path, load: Load, gate: MemoryGate | None = None
) -> CachedCase:
    """The prepared case, from `folder` if it lies there whole, else prepared and written.

    Args:
        case: the case; its files' sizes and times are part of the key.
        plan: how to prepare.
        table: the labels.
        folder: of the whole cache.
        load: reads the case's image and labels.
        gate: limits the memory of all preparations together.
    """
    home = folder / case.id / _key(case, plan, table)
    entry = _sound(home)
    if entry is None:
        if home.exists():
            log.warning("%s: damaged or out of date, prepared anew", home)
        volume, labels = load()
        with (gate or MemoryGate(0)).hold(_needed(volume, plan)):
            _write(home, plan, table, volume, labels)
        entry = _sound(home)
        if entry is None:
            raise VoxelryError(f"{home}: changes while it is written", remedy="Are its files being copied or edited?")
    return _opened(case.id, home, entry)


def with_previous(case: CachedCase, plan: Plan, identity: str, find: Callable[[], LabelMap]) -> CachedCase:
    """A cached case with what the first stage of a cascade found in it, on this stage's grid.

    Args:
        case: from the cache.
        plan: of the second stage, by which the case was prepared.
        identity: of what found them, such as a hash of the first stage's weights; part of the file's name.
        find: the labels, on the scan's own grid; asked for only where they are not in the cache.

    Returns:
        The case with `previous`.

    Raises:
        GridMismatchError: the labels lie on another grid.
    """
    assert case.home is not None
    file = case.home / _PREVIOUS.format(hashlib.sha256(identity.encode()).hexdigest()[:16])
    found = _array(file)
    if found is None or found.shape != case.classes.shape:
        entry = _sound(case.home) or {}
        preparation = _preparation(entry, plan)
        labels = find().on_grid(preparation.source)
        classes = labels.table.to_classes(labels.array, labels.source.name)
        with atomic_path(file) as temporary:
            store_array(temporary, np.maximum(preparation.classes(classes), 0), _type_of(labels.table))
        found = MappedArray.of(file)
    return replace(case, previous=found)


def _write(home: Path, plan: Plan, table: LabelTable, volume: Volume, labels: LabelMap | None) -> None:
    preparation = prepare(volume, plan)
    if labels is None:
        classes = np.full(preparation.shape, IGNORE_INDEX, np.int16)
    else:
        classes = preparation.classes(table.to_classes(labels.array, volume.source.name))
    places = class_places(classes, len(table) + 1)
    read = {Path(file) for source in (volume, labels) if source is not None for file in source.source.files}
    entry = {
        "counts": class_counts(classes, len(table) + 1),
        "places": {index: len(voxels) for index, voxels in places.items()},
        "grid": _described(preparation.source),
        "start": preparation.start,
        "extent": preparation.extent,
        "shape": preparation.shape,
        "read": {str(file): _stamp(file) for file in sorted(read) if file.is_file() and not is_unpacked(file)},
    }
    with atomic_folder(home, keep=lambda there: _sound(there) is not None) as temporary:
        store_array(temporary / "image.npy", preparation.image(volume), np.float16)
        store_array(temporary / "classes.npy", classes, _type_of(table))
        if any(map(len, places.values())):
            store_array(temporary / "places.npy", np.concatenate(list(places.values())), np.int32)
        entry["files"] = {file.name: [*_stamp(file), checksum(file)] for file in sorted(temporary.iterdir())}
        (temporary / ENTRY_FILE).write_text(json.dumps(entry))


def _opened(name: str, home: Path, entry: dict[str, Any]) -> CachedCase:
    places: dict[int, Array] = {}
    rows = _array(home / "places.npy") if "places.npy" in entry["files"] else None
    begin = 0
    for index, number in entry["places"].items():
        places[int(index)] = rows.rows(begin, begin + number) if rows else np.empty((0, len(entry["shape"])), np.int32)
        begin += number
    counts = {int(index): number for index, number in entry["counts"].items()}
    return CachedCase(name, MappedArray.of(home / "image.npy"), MappedArray.of(home / "classes.npy"), places, counts, home=home)


def _sound(home: Path) -> dict[str, Any] | None:
    """What an entry says of itself; None where it is not there, damaged, or made from files that have changed since.

    A file whose time is not the one that was written down (a copy of the cache, or one that was tampered with) is read whole.
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
    """The smallest type for the class indices of a table."""
    return np.int8 if len(table) <= np.iinfo(np.int8).max else np.int16


def _needed(volume: Volume, plan: Plan) -> int:
    """Bytes that preparing a case takes: the scan, the scan prepared, and class indices on both grids."""
    zoom = 1.0
    if plan.spacing is not None and volume.spacing is not None:
        order = reordering(volume.geometry, plan.orientation).order
        now = (volume.spacing[axis] for axis in order)
        zoom = math.prod(a / b for a, b in zip(now, plan.spacing, strict=True) if b is not None)
    return int(math.prod(volume.geometry.shape) * (4 * volume.channels + 4) * (1 + zoom))


def _described(grid: Geometry) -> dict[str, Any]:
    affine = None if grid.affine is None else grid.affine.tolist()
    return {"shape": grid.shape, "affine": affine, "pixel_size": grid.pixel_size}


def _preparation(entry: dict[str, Any], plan: Plan) -> Preparation:
    """How an entry was prepared."""
    grid, pixel = entry["grid"], entry["grid"]["pixel_size"]
    affine = None if grid["affine"] is None else np.array(grid["affine"])
    source = Geometry(tuple(grid["shape"]), affine, None if pixel is None else (pixel[0], pixel[1]))
    box = (tuple(entry[name]) for name in ("start", "extent", "shape"))
    return Preparation(plan, source, reordering(source, plan.orientation), *box)


def _key(case: Case, plan: Plan, table: LabelTable) -> str:
    stamps: list[Any] = [(str(file), *_stamps(file)) for file in (*case.images, *case.label_files)]
    prepared = plan.model_dump(mode="json", include=_PREPARED)
    content = json.dumps([_LAYOUT, _code(), stamps, prepared, table.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


@cache
def _code() -> str:
    """Changes with the version, and with the text of every module that reads or prepares."""
    digest = hashlib.sha256(__version__.encode())
    package = Path(__file__).parents[1]
    for file in sorted(file for pattern in _CODE for file in package.glob(pattern)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _stamps(file: Path) -> list[Any]:
    """Size and time of a file, or name, size and time of every file in a folder."""
    if not file.is_dir():
        return _stamp(file)
    return [(one.relative_to(file).as_posix(), *_stamp(one)) for one in sorted(file.rglob("*")) if one.is_file()]


def _stamp(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]
