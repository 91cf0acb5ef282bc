"""Reads YOLO segmentation labels, ``class x1 y1 x2 y2 ...`` a line, as label maps with instance ids: each line is an object.

Coordinates are fractions of the picture's size, which the file does not state: that is the reference's, or that of the picture
beside the file (in the folder ``images`` where the file is in ``labels``, as YOLO's sets are laid out). Names of classes are
those of ``data.yaml`` or ``classes.txt`` in the folder or one of the two above it. A polygon is filled by the even-odd rule
(`contours`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voxelry.base.files import read_text, read_yaml
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import ConfigError, CorruptFileError, GridMismatchError, LabelError, MissingFileError, UnsupportedFormatError
from voxelry.formats.contours import fill
from voxelry.formats.label_layers import SegmentBox, clean_name, unique_names
from voxelry.formats.object_layers import LabelledObject, stack_objects
from voxelry.formats.reader import read
from voxelry.formats.table import claims_image, stem_of

_NAMES = ("data.yaml", "dataset.yaml", "classes.txt")
_MOST_CLASSES = 65535
_BOX = 4
_FEWEST = 6


def read_yolo(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
) -> LabelMap:
    """Read the objects of one picture.

    Args:
        path: a text file; one without a line has no objects.
        table: its labels are the classes 0, 1... in order. None takes the names of the set, else ``label_1`` for class 0.
        reference: the picture, or its path; None looks for it beside the file.

    Returns:
        A LabelMap ``(rows, columns)`` whose objects are numbered by their lines from 1; on several layers where labels overlap.

    Raises:
        MissingFileError: no picture is beside the file.
        LabelError: a class that `table` does not have.
        UnsupportedFormatError: boxes in place of polygons.
        CorruptFileError: a line of something else.
    """
    file = Path(path)
    grid, picture = _grid(file, reference)
    rings = _rings(file)
    names = table.names if table is not None else _class_names(file)
    classes = {number for number, _ in rings}
    if table is not None and max(classes, default=0) >= len(names):
        raise LabelError(
            f"{file}: class {max(classes)}, the table has {len(names)} labels, classes 0 to {len(names) - 1}",
            remedy="List the labels in the order of the classes.",
        )
    labels = dict(enumerate(table.labels)) if table is not None else _labels(names, classes)
    objects = []
    for id, (number, ring) in enumerate(rings, start=1):
        filled = fill([ring * grid.shape[::-1] - 0.5], (grid.shape[1], grid.shape[0]))
        boxes = [SegmentBox(filled.start[::-1], filled.inside.T)] if filled.inside.any() else []
        objects.append(LabelledObject(number, id, boxes))
    return stack_objects(objects, grid, labels, table, Source("yolo", (str(file),), remarks=picture))


def _grid(file: Path, reference: Volume | str | os.PathLike[str] | None) -> tuple[Geometry, tuple[str, ...]]:
    """The picture's grid, and a remark on which picture it is."""
    remark: tuple[str, ...] = ()
    if isinstance(reference, Volume):
        grid = reference.geometry
    else:
        picture = _picture_beside(file) if reference is None else Path(reference)
        grid, remark = read(picture).geometry, (f"fractions of the size of {picture}",)
    if grid.ndim != 2:
        raise GridMismatchError(f"{file}: outlines in a picture, for {grid.describe()}", remedy="Name the picture.")
    return grid, remark


def _picture_beside(file: Path) -> Path:
    folder = file.parent
    folders = [folder, *([folder.with_name("images")] if folder.name == "labels" else [])]
    parts = folder.parts
    if "labels" in parts:  # labels/train/a.txt belongs to images/train/a.png
        at = len(parts) - 1 - parts[::-1].index("labels")
        folders.append(Path(*parts[:at], "images", *parts[at + 1 :]))
    stem = stem_of(file)
    for place in dict.fromkeys(folders):
        pictures = [item for item in sorted(place.glob(f"{_literal(stem)}.*")) if claims_image(item) and stem_of(item) == stem]
        if pictures:
            return pictures[0]
    raise MissingFileError(
        f"{file}: its coordinates are fractions of a picture that is not beside it", remedy="Name the picture as the reference."
    )


def _literal(stem: str) -> str:
    """A name as a pattern that fits it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)


def _rings(file: Path) -> list[tuple[int, np.ndarray]]:
    """Class and polygon ``(n, 2)`` of each line."""
    try:
        text = read_text(file)
    except ConfigError as error:
        raise CorruptFileError(error.problem, remedy="Export it again.") from error
    rings = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) == 1 + _BOX:
            raise UnsupportedFormatError(
                f"{file}: line {number} is a box, not an outline", remedy="Export segmentation labels, not those of detection."
            )
        wrong = _fault(words)
        if wrong:
            raise CorruptFileError(f"{file}: line {number}: {wrong}", remedy="Correct the line, or export the file again.")
        rings.append((int(words[0]), np.array(words[1:], np.float64).reshape(-1, 2)))
    return rings


def _fault(words: list[str]) -> str:
    """What keeps a line from being a class and the corners of a polygon; empty where nothing does."""
    if not (words[0].isascii() and words[0].isdigit() and int(words[0]) < _MOST_CLASSES):
        return f"class '{words[0]}' is not a whole number from 0 to {_MOST_CLASSES - 1}"
    for place, word in enumerate(words[1:], start=2):
        if not _is_finite(word):
            return f"value {place}, '{word}', is not a number"
    count = len(words) - 1
    if count < _FEWEST or count % 2:
        return f"{count} coordinates after the class, where a polygon has {_FEWEST} or more, two a corner"
    return ""


def _is_finite(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _labels(names: Mapping[int, str] | tuple[str, ...], classes: set[int]) -> dict[int, Label]:
    """Class -> its label."""
    known = dict(enumerate(names)) if isinstance(names, tuple) else dict(names)
    every = sorted({*known, *classes})
    plain = {n: Label(value=n + 1, name=clean_name(str(known.get(n, f"label_{n + 1}")), n), kind="thing") for n in every}
    return unique_names(plain)


def _class_names(file: Path) -> dict[int, str]:
    """The names of a set's classes; empty where it states none."""
    for folder in (file.parent, *list(file.resolve().parents)[1:3]):
        for candidate in (folder / name for name in _NAMES):
            if candidate.is_file() and candidate != file:
                names = _names_in(candidate)
                if names:
                    return names
    return {}


def _names_in(file: Path) -> dict[int, str]:
    if file.suffix == ".txt":
        lines = [line.strip() for line in read_text(file).splitlines()]
        return {index: name for index, name in enumerate(lines) if name}
    names = read_yaml(file).get("names")
    if isinstance(names, list):
        return {index: str(name) for index, name in enumerate(names)}
    return {key: str(name) for key, name in names.items() if isinstance(key, int)} if isinstance(names, dict) else {}
