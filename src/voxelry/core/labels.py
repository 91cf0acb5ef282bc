"""Label and LabelTable: the meaning of stored values. Names, codes and colours come from here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from voxelry.base.schema import Frozen, parse
from voxelry.errors import LabelError, nearest

BACKGROUND = ("background", "unlabeled", "unlabelled", "void")
"""Names of value 0 in the ``id2label`` of other programs, ours first."""

IGNORE_INDEX = -1
"""The class index of ignored voxels (`LabelTable.to_classes`)."""

_UNKNOWN = np.iinfo(np.int16).min
_Byte = Annotated[int, Field(ge=0, le=255)]

PALETTE = (
    (230, 75, 60), (60, 150, 230), (90, 190, 90), (245, 190, 50), (160, 100, 215), (60, 200, 200), (240, 130, 180),
    (150, 110, 70), (180, 210, 80), (110, 120, 150), (250, 140, 60), (70, 90, 200), (200, 60, 120), (120, 200, 160),
)  # fmt: skip
"""Colours of labels that have none."""


class Code(Frozen):
    """A coded concept (DICOM PS3.3 section 8.8): value, coding scheme, meaning.

    `scheme` is ``SCT`` for SNOMED CT, ``DCM`` for DICOM's own, ``99VOXELRY`` where no table knows the concept.

    Example:
        >>> Code(value="10200004", meaning="Liver").scheme
        'SCT'
    """

    value: str
    scheme: str = "SCT"
    meaning: str = Field(max_length=64)


ANATOMICAL_STRUCTURE = Code(value="91723000", meaning="Anatomical Structure")


class Label(Frozen):
    """The meaning of one stored value.

    Attributes:
        value: the integer stored in the array, from 1; 0 is background.
        name: a short name, unique in its table.
        category, type, modifier: SNOMED CT codes as DICOM SEG wants them (segmented property category, type, laterality).
        color: RGB, 0..255.
        kind: ``stuff`` (one structure) or ``thing`` (countable objects).
        mirror: the name of the label on the other side of the body, swapped when an image is mirrored; its own name where it
            has no side although its name says one (the left ventricle of the heart).
        layer: the layer of a LabelMap that holds it (labels that overlap lie on different layers).
        tracking_id, tracking_uid: name of one finding across objects and dates (PS3.3 section C.8.20.2.4); None where it has
            none.

    Example:
        >>> Label(value=3, name="liver", color=(221, 130, 101)).rgb
        (221, 130, 101)
    """

    value: int = Field(ge=1, le=65535)
    name: str = Field(min_length=1, max_length=64)
    category: Code = ANATOMICAL_STRUCTURE
    type: Code | None = None
    modifier: Code | None = None
    color: tuple[_Byte, _Byte, _Byte] | None = None
    kind: Literal["stuff", "thing"] = "stuff"
    mirror: str | None = None
    layer: int = Field(default=0, ge=0)
    tracking_id: str | None = Field(default=None, min_length=1, max_length=64)
    tracking_uid: str | None = Field(default=None, pattern=r"^[0-9]+(\.[0-9]+)+$", max_length=64)

    @field_validator("value", mode="before")
    @classmethod
    def _not_background(cls, value: Any) -> Any:
        if value == 0 and not isinstance(value, bool):
            raise ValueError("0 is the background, which is no label; leave this one out")
        return value

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The label's colour, or one of the palette by its value."""
        return self.color or PALETTE[(self.value - 1) % len(PALETTE)]

    @property
    def cielab(self) -> tuple[int, int, int]:
        """The colour as DICOM stores it: CIELab L*, a*, b* scaled to 0..65535 (PS3.3 section C.10.7.1.1)."""
        return _scaled_cielab(self.rgb)


class LabelTable(Frozen):
    """The labels of a dataset, in order; class index `i + 1` is the i-th label, 0 the background.

    Attributes:
        labels: unique values (per layer) and names; mirror twins name each other.
        ignore: a stored value whose voxels enter neither the loss nor a count of voxels; metrics of shape take them for
            background in reference and prediction alike.

    Example:
        >>> from voxelry.core import Label
        >>> table = LabelTable(labels=(Label(value=3, name="liver"), Label(value=7, name="spleen")), ignore=9)
        >>> table[7].name, table.id2label
        ('spleen', {0: 'background', 3: 'liver', 7: 'spleen'})
    """

    labels: tuple[Label, ...]
    ignore: int | None = Field(default=None, ge=0, le=65535)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_duplicates("name", [label.name for label in self.labels])
        _refuse_duplicates("value", [f"{label.value} on layer {label.layer}" for label in self.labels])
        if any(label.value == self.ignore for label in self.labels):
            raise ValueError(f"value {self.ignore} is both a label and the ignore value")
        twins = {label.name: label.mirror for label in self.labels if label.mirror}
        for name, twin in twins.items():
            if twins.get(twin) != name:
                raise ValueError(f"label '{name}' names '{twin}' as its mirror, but not the other way round")
        return self

    @classmethod
    def numbered(cls, values: Iterable[int]) -> LabelTable:
        """A table for values without names: ``label_1``, ``label_2``..."""
        return cls(labels=tuple(Label(value=v, name=f"label_{v}") for v in sorted({int(v) for v in values} - {0})))

    @classmethod
    def from_id2label(cls, names: Mapping[int, str] | Mapping[str, str]) -> LabelTable:
        """A table for the ``id2label`` of a model's configuration, as Hugging Face writes it.

        Args:
            names: stored value -> name; values may be text, as JSON has them. Value 0 is the background and may be left out.

        Raises:
            LabelError: value 0 is not the background, or a value is no whole number or stands twice.
            ConfigError: values above 65535, or names that are empty, too long or not unique.

        Example:
            >>> LabelTable.from_id2label({"0": "background", "1": "nucleus"}).id2label
            {0: 'background', 1: 'nucleus'}
        """
        values = [_whole(key) for key in names]
        numbers = dict(zip(values, names.values(), strict=True))
        if len(numbers) < len(values):
            raise LabelError(f"id2label: a value stands twice among {list(names)}", remedy="Give each value once.")
        zero = numbers.pop(0, BACKGROUND[0])
        if str(zero).lower() not in BACKGROUND:
            raise LabelError(
                f"id2label: value 0 is '{zero}', but 0 is the background of every mask",
                remedy=f"Number labels from 1; names of the background are {', '.join(BACKGROUND)}.",
            )
        return parse(cls, {"labels": [{"value": value, "name": numbers[value]} for value in sorted(numbers)]}, "id2label")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in order, background left out."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def id2label(self) -> dict[int, str]:
        """Stored value -> name, background included."""
        return {0: "background"} | {label.value: label.name for label in self.labels}

    @property
    def layers(self) -> int:
        """The number of layers that the labels need."""
        return 1 + max((label.layer for label in self.labels), default=0)

    def __getitem__(self, key: int | str) -> Label:
        """The label of a stored value or a name.

        Raises:
            LabelError: the table does not know it, or the value is on several layers.
        """
        matches = [label for label in self.labels if key in (label.value, label.name)]
        if len(matches) > 1:
            names = ", ".join(label.name for label in matches)
            raise LabelError(f"value {key} is on several layers, for {names}", remedy="Ask by name.")
        if matches:
            return matches[0]
        hint = nearest(key, self.names) if isinstance(key, str) else f"Known values: {sorted(self.id2label)}."
        raise LabelError(f"no label {key!r} in the table", remedy=hint)

    def mirror_classes(self) -> tuple[int, ...]:
        """The class index (0 is background) that each class becomes when the body is mirrored left to right."""
        index = {name: i + 1 for i, name in enumerate(self.names)}
        return (0, *(index[label.mirror or label.name] for label in self.labels))

    def check_values(self, values: Iterable[int], where: str) -> None:
        """Refuse values that the table does not know.

        Raises:
            LabelError: naming `where` and the values.
        """
        known = set(self.id2label) | ({self.ignore} if self.ignore is not None else set())
        unknown = sorted({int(value) for value in values} - known)
        if unknown:
            shown = ", ".join(map(str, unknown[:8])) + (" ..." if len(unknown) > 8 else "")
            raise LabelError(
                f"{where}: label values {shown} are not in the table (known: {sorted(known)})",
                remedy="Add them to the dataset card's labels, or name one as its ignore value.",
            )

    def to_classes(self, array: NDArray[np.integer[Any]], where: str) -> NDArray[np.int16]:
        """Stored values -> class indices 0..len(table), `IGNORE_INDEX` for the ignore value.

        Args:
            array: integer label map of any shape.
            where: the file it came from, for messages.

        Returns:
            int16 array of the same shape.

        Raises:
            LabelError: a value that the table does not know.
        """
        lookup = np.full(2**16, _UNKNOWN, dtype=np.int16)
        lookup[0] = 0
        for index, label in enumerate(self.labels, start=1):
            lookup[label.value] = index
        if self.ignore is not None:
            lookup[self.ignore] = IGNORE_INDEX
        fits = array.dtype.kind == "u" and array.dtype.itemsize <= 2
        if not fits and array.size and (array.min() < 0 or array.max() >= len(lookup)):
            self.check_values(np.unique(array).tolist(), where)
        classes: NDArray[np.int16] = lookup[array]
        if (classes == _UNKNOWN).any():
            self.check_values(np.unique(array).tolist(), where)
        return classes

    def from_classes(self, classes: NDArray[np.integer[Any]]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Class indices -> stored values, in the smallest unsigned type that holds the table.

        Args:
            classes: integer array of any shape, values 0..len(table).

        Raises:
            LabelError: another class index, such as `IGNORE_INDEX`.
        """
        if classes.size and not 0 <= classes.min() <= classes.max() <= len(self):
            raise LabelError(f"class indices {classes.min()}..{classes.max()} are not all in 0..{len(self)}")
        highest = max((label.value for label in self.labels), default=0)
        lookup = np.array([0, *(label.value for label in self.labels)], dtype=np.uint8 if highest < 256 else np.uint16)
        result: NDArray[np.uint8] | NDArray[np.uint16] = lookup[classes]
        return result


def id2label(table: LabelTable) -> dict[int, str]:
    """Stored value -> name, background included: the ``id2label`` of a model's configuration, as Hugging Face writes it.

    Args:
        table: the labels; values that are on several layers have the name of the last.

    Example:
        >>> from voxelry import LabelTable
        >>> id2label(LabelTable.from_id2label({1: "nucleus"}))
        {0: 'background', 1: 'nucleus'}
    """
    return dict(table.id2label)


def _whole(value: int | str) -> int:
    """A stored value, which JSON holds as text.

    Raises:
        LabelError: it is no whole number.
    """
    if isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip().isdecimal():
        return int(value)
    raise LabelError(f"id2label: {value!r} is no stored value", remedy="Give whole numbers, as numbers or as text.")


_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.950456, 1.0, 1.088754)
"""sRGB (IEC 61966-2-1) to CIE XYZ, and the white point D65, as DCMTK and with it dcmqi and 3D Slicer decode colours."""


def _scaled_cielab(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Colour sRGB 0..255 -> CIELab, L* of 0..100 and a*, b* of -128..127 spread over 0..65535."""
    share = [channel / 255 for channel in rgb]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in share]
    ratio = [sum(w * c for w, c in zip(row, linear, strict=True)) / white for row, white in zip(_XYZ, _WHITE, strict=True)]
    x, y, z = (t ** (1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29 for t in ratio)
    lightness, a, b = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    return round(lightness * 655.35), round((a + 128) * 257), round((b + 128) * 257)


def _refuse_duplicates(what: str, items: list[str]) -> None:
    duplicates = sorted({item for item in items if items.count(item) > 1})
    if duplicates:
        raise ValueError(f"label {what} {', '.join(duplicates)} occurs twice")
