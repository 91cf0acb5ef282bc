"""Reads COCO instance annotations (cocodataset.org, data format 4.1) as label maps with instance ids.

Segmentations are polygons, or run lengths, plain or as COCO's text. An annotation's id is the object's instance id. A region
with ``iscrowd`` 1, and any of a category with ``isthing`` 0, has its label and no id. Labels that overlap lie on layers.

The polygons of an annotation are united, each filled by the even-odd rule, so that keyholes stay open (`contours`). COCO counts
x and y from the corner of the picture, so a pixel's centre lies at .5. Some programs, as V7 Darwin, number pixels instead, and a
polygon's own vertices belong to it: so it is where every box of the file is one pixel wider and higher than its polygons extend.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.files import read_json
from voxelry.base.listing import counted, shown
from voxelry.base.schema import parse
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import ConfigError, CorruptFileError, GridMismatchError, LabelError, SelectionError, UsageError, nearest
from voxelry.formats.contours import fill
from voxelry.formats.label_layers import SegmentBox, clean_name, match, unique_names
from voxelry.formats.object_layers import LabelledObject, stack_objects
from voxelry.formats.pictures.rle import mask_box, uncompressed
from voxelry.formats.pictures.stored_picture import check_size

TABLE_KEY = "label_table"
"""Key of the file, beside COCO's own, with the label table of a file of ours."""

_MOST_IDS = 2**32 - 1
_MOST_VALUES = 65535
_BOX_TOLERANCE = 1e-3
_IGNORE = "ignore"

Entry = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class CocoPicture:
    """One picture of a file.

    Attributes:
        name: ``file_name``.
        shape: rows and columns.
        annotations: in the order of the file.
    """

    name: str
    shape: tuple[int, int]
    annotations: Sequence[Entry]

    @property
    def path(self) -> PurePath:
        """Its name as a path, by the separators of any system."""
        return PureWindowsPath(self.name)


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A file of annotations.

    Attributes:
        path: the file.
        pictures: in its order.
        labels: category id -> label, whose value is the category's id where all are label values.
        things: ids of the categories whose annotations are objects; the others are regions.
        table: the label table that the file carries, None where it has none.
        offset: pixels from the origin of x and y to the centre of the first pixel: 0.5, or 0 where vertices are pixels.
        lists_drawn: categories are only those of its annotations, so a picture may have none of a table.
    """

    path: Path
    pictures: Sequence[CocoPicture]
    labels: Mapping[int, Label]
    things: frozenset[int]
    table: LabelTable | None
    offset: float
    lists_drawn: bool = False

    def picture(self, name: str | None = None) -> CocoPicture:
        """The picture of a file name, with or without folders and ending; the only one where none is named.

        Raises:
            SelectionError: there are several, or none of that name.
        """
        if name is not None:
            wanted = Path(name)
            by_name = [item for item in self.pictures if wanted.name in (item.path.name, item.path.stem)]
            matches = by_name or [item for item in self.pictures if item.path.stem == wanted.stem]
            if len(matches) == 1:
                return matches[0]
        if len(self.pictures) == 1:
            return self.pictures[0]
        names = [item.name for item in self.pictures]
        problem = "holds the annotations of" if name is None else f"which of its pictures is {Path(name).name} is unclear among"
        raise SelectionError(
            f"{self.path}: {problem} {counted(len(names), 'picture', 'pictures')} ({shown(names)})",
            remedy="Name the picture as the reference." if name is None else nearest(Path(name).name, names),
        )

    def map_of(self, picture: CocoPicture, table: LabelTable | None = None, geometry: Geometry | None = None) -> LabelMap:
        """The labels and objects of one of its pictures; see `read_coco`.

        Args:
            picture: one of `pictures`.
            table: the labels to take, matched by name.
            geometry: the picture's grid; None for one of unknown pixel size.
        """
        grid = geometry or Geometry(picture.shape)
        if grid.shape != picture.shape:
            raise GridMismatchError(
                f"{self.path}: annotations of a picture of {_size(picture.shape)} pixels ({picture.name}), for one of "
                f"{' x '.join(map(str, grid.shape[::-1]))}",
                remedy="Name the picture that was annotated.",
            )
        check_size(self.path, *picture.shape)
        labels, ignored, remarks = _matched(self, table)
        objects, own_remarks = self._objects(picture)
        source = Source("coco", (str(self.path),), remarks=(*remarks, *own_remarks))
        kept = [item for item in objects if item.number in labels]
        stacked = stack_objects(kept, grid, labels, table or self.table, source, drawn=True)
        regions = [item for item in objects if item.number in ignored]
        return _with_ignored(stacked, regions) if regions else stacked

    def scores_of(self, picture: CocoPicture) -> dict[int, float] | None:
        """Instance id -> score of the objects of a picture, key ``score``; None where it has objects and none has one."""
        things, numbers, _ = self._numbered_things(picture)
        scores = {number: item.get("score") for number, item in zip(numbers, things, strict=True)}
        known = {number: float(score) for number, score in scores.items() if isinstance(score, int | float)}
        return known if known or not scores else None

    def _numbered_things(self, picture: CocoPicture) -> tuple[list[Entry], list[int], bool]:
        """The objects of a picture, their instance ids, and whether these are the annotations' own."""
        things = [item for item in picture.annotations if _is_object(item, self.things)]
        ids = [item.get("id") for item in things]
        fits = all(isinstance(id, int) and 0 < id <= _MOST_IDS for id in ids) and len(set(ids)) == len(ids)
        return things, [int(item["id"]) if fits else number for number, item in enumerate(things, start=1)], fits

    def _objects(self, picture: CocoPicture) -> tuple[list[LabelledObject], list[str]]:
        """The annotations of a picture as objects, and remarks."""
        things, ids, fits = self._numbered_things(picture)
        numbers = {id(item): number for item, number in zip(things, ids, strict=True)}
        objects, empty = [], 0
        for item in picture.annotations:
            boxes = list(self._boxes(item, picture.shape))
            empty += not boxes
            objects.append(LabelledObject(item["category_id"], numbers.get(id(item), 0), boxes))
        crowds = sum(item["category_id"] in self.things for item in picture.annotations) - len(things)
        remarks = [] if fits else ["annotations without ids of their own, from 1 to 4294967295, were numbered from 1"]
        remarks += [f"{counted(empty, 'annotation encloses', 'annotations enclose')} no pixel"] if empty else []
        if crowds:
            remarks.append(
                f"{counted(crowds, 'region', 'regions')} of a thing marked `iscrowd`: voxels of its label without an object"
            )
        return objects, remarks

    def _boxes(self, annotation: Entry, shape: tuple[int, int]) -> Iterator[SegmentBox]:
        """Where an annotation is."""
        segmentation = annotation.get("segmentation")
        try:
            if isinstance(segmentation, Mapping):
                yield from _decoded(segmentation, shape)
                return
            for ring in _rings(segmentation):
                filled = fill([ring - self.offset], shape[::-1])
                if filled.inside.any():
                    yield SegmentBox(filled.start[::-1], filled.inside.T)
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptFileError(
                f"{self.path}: annotation {annotation.get('id')} has no segmentation that can be read ({error})",
                remedy="Export it again, with polygons or run lengths.",
            ) from error


def read_coco(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
) -> LabelMap:
    """Read the annotations of one picture as labels with instance ids.

    Args:
        path: a JSON file.
        table: the labels to take, matched to categories by name; the others are left out with a remark. A category ``ignore``
            that is none of them becomes the table's ignore value. Objects of several labels that overlap on one of its layers are
            drawn over each other, with a remark. None takes all, numbered as in the file where that is possible.
        reference: the picture, or its path, where the file has several; its file name says which it is.

    Returns:
        A LabelMap ``(rows, columns)``, on several layers where labels overlap, with `instances` where a category has objects.

    Raises:
        SelectionError: several pictures, of which the reference names none.
        GridMismatchError: the reference is of another size.
        LabelError: no category is in `table`.
        CorruptFileError: no COCO annotations, or damaged.
    """
    file = open_coco(path)
    if isinstance(reference, Volume):
        name = reference.source.files[0] if reference.source.files else None
        return file.map_of(file.picture(name), table, reference.geometry)
    return file.map_of(file.picture(None if reference is None else str(reference)), table)


def open_coco(path: str | os.PathLike[str]) -> CocoFile:
    """The annotations of a file; the file read last is kept, since datasets have one for all their pictures.

    Raises:
        CorruptFileError: it is not of this format.
        MissingFileError: no such file.
    """
    file = Path(path)
    status = file.stat() if file.is_file() else None
    return _opened(file, None if status is None else (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1)
def _opened(file: Path, _: tuple[int, int] | None) -> CocoFile:
    try:
        content = read_json(file)
    except ConfigError as error:
        raise CorruptFileError(error.problem, remedy="Export it again.") from error
    return coco_file(file, content)


def coco_file(file: Path, content: Entry) -> CocoFile:
    """The annotations of parsed JSON.

    Args:
        file: where it came from, for messages.
        content: with the keys of COCO.

    Raises:
        CorruptFileError: it is not of this format.
    """
    try:
        return _parsed(file, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError(
            f"{file}: not COCO annotations ({type(error).__name__}: {error})",
            remedy="Keys images, annotations and categories are needed.",
        ) from error


def _parsed(file: Path, content: Entry) -> CocoFile:
    categories = {int(item["id"]): item for item in content["categories"]}
    if len(categories) < len(content["categories"]):
        raise ValueError("two categories have one id")
    annotations: dict[Any, list[Entry]] = {}
    for item in content["annotations"]:
        category = int(item["category_id"])  # some programs write numbers as text
        if category not in categories:
            raise ValueError(f"annotation {item.get('id')} is of category {category}, which is not listed")
        annotations.setdefault(str(item["image_id"]), []).append({**item, "category_id": category})
    pictures = [
        CocoPicture(str(item["file_name"]), (int(item["height"]), int(item["width"])), annotations.pop(str(item["id"]), []))
        for item in content["images"]
    ]
    if annotations:
        raise ValueError(f"annotations of picture {next(iter(annotations))}, which is not listed")
    things = frozenset(number for number, item in categories.items() if item.get("isthing", 1))
    table = _stored_table(content)
    names = {number: clean_name(str(item["name"]), number) for number, item in categories.items()}
    if table is not None and all(name in table.names for name in names.values()):
        labels = {number: table[name] for number, name in names.items()}
    else:
        table, labels = None, _numbered(names, categories, things)
    every = [item for picture in pictures for item in picture.annotations]
    return CocoFile(file, pictures, labels, things, table, 0.0 if _vertices_are_pixels(every) else 0.5)


def _stored_table(content: Entry) -> LabelTable | None:
    try:
        return parse(LabelTable, content[TABLE_KEY], TABLE_KEY) if TABLE_KEY in content else None
    except UsageError:
        return None


def _numbered(names: Mapping[int, str], categories: Mapping[int, Entry], things: frozenset[int]) -> dict[int, Label]:
    """Category id -> a label of its name, with its id as value where all are label values, else numbered from 1."""
    fits = all(0 < number <= _MOST_VALUES for number in names)
    return unique_names(
        {
            number: Label(
                value=number if fits else index,
                name=name,
                kind="thing" if number in things else "stuff",
                color=_color(categories[number].get("color")),
            )
            for index, (number, name) in enumerate(names.items(), start=1)
        }
    )


def _color(value: Any) -> tuple[int, int, int] | None:
    fits = isinstance(value, list) and len(value) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in value)
    return (value[0], value[1], value[2]) if fits else None


def _matched(file: CocoFile, table: LabelTable | None) -> tuple[Mapping[int, Label], set[int], list[str]]:
    """Category id -> label, the categories that are ignored, and remarks."""
    if table is None:
        return file.labels, set(), []
    matches = {number: match(label, table) for number, label in file.labels.items()}
    labels = {number: label for number, label in matches.items() if label is not None}
    unknown = {number: file.labels[number].name for number, label in matches.items() if label is None}
    ignored = {number for number, name in unknown.items() if name.casefold() == _IGNORE and table.ignore is not None}
    others = [name for number, name in unknown.items() if number not in ignored]
    if not labels and file.labels and not file.lists_drawn:
        names = [label.name for label in file.labels.values()]
        raise LabelError(f"{file.path}: no category ({shown(names)}) is in the table", remedy=nearest(names[0], table.names))
    return labels, ignored, [f"categories not in the table are left out: {shown(others)}"] if others else []


def _with_ignored(labels: LabelMap, regions: Sequence[LabelledObject]) -> LabelMap:
    """The map with the ignore value wherever a region is and no label."""
    assert labels.table.ignore is not None
    highest = max(labels.table.ignore, int(labels.layers.max(initial=0)))
    layers = labels.layers.astype(np.uint8 if highest < 256 else np.uint16)
    for box in (box for region in regions for box in region.boxes):
        place = (slice(None), *box.box)
        layers[place] = np.where(box.inside & ~layers[place].any(axis=0), labels.table.ignore, layers[place])
    return replace(labels, layers=layers)


def _is_object(annotation: Entry, things: frozenset[int]) -> bool:
    return annotation["category_id"] in things and not annotation.get("iscrowd")


def _decoded(segmentation: Entry, shape: tuple[int, int]) -> Iterator[SegmentBox]:
    """The box of run lengths."""
    size, counts = [int(number) for number in segmentation["size"]], segmentation["counts"]
    if tuple(size) != shape:
        raise ValueError(f"run lengths for {_size((size[0], size[-1]))} pixels, the picture has {_size(shape)}")
    box = mask_box(uncompressed(counts) if isinstance(counts, str) else np.array(counts, np.int64), shape)
    if box is not None:
        yield box


def _rings(segmentation: Any) -> Iterator[NDArray[np.float64]]:
    """The polygons, ``(n, 2)`` of x and y."""
    if not isinstance(segmentation, list):
        raise TypeError("neither polygons nor run lengths")
    for flat in segmentation:
        ring = np.array(flat, np.float64).reshape(-1, 2)
        if not len(ring) or not np.isfinite(ring).all():
            raise ValueError("a polygon without vertices, or with infinite ones")
        yield ring


def _vertices_are_pixels(annotations: Sequence[Entry]) -> bool:
    """Every box is one pixel wider and higher than its polygons extend."""
    extents = []
    for item in annotations:
        polygons, box = item.get("segmentation"), item.get("bbox")
        if isinstance(polygons, list) and polygons and isinstance(box, list) and len(box) == 4:
            try:
                corners = np.concatenate(list(_rings(polygons)))
                extents.append(np.array(box[2:], np.float64) - np.ptp(corners, axis=0))
            except (ValueError, TypeError):
                return False
    return bool(extents) and bool(np.allclose(extents, 1.0, atol=_BOX_TOLERANCE))


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
