r"""Case, and the forms in which a manifest may list its cases.

    cases:                                      # rows, one by one
      - {id: a, images: [a.nii.gz], labels: a_seg.nii.gz, group: patient 1, split: train}

    cases: rows.csv                             # as a table: id, image (or image_1...), labels, group, split, site

    cases:                                      # files found by pattern; {id} is the wildcard
      images: ["images/{id}.nii.gz"]            # one pattern a channel file; the ids come from the first
      labels: "labels/{id}.*"                   # .* stands for every ending of a format, * for any text, ** for folders
      group_pattern: '^(\d+)_'                   # the patient within the id; without it each case is its own patient
      split_file: splits.json                   # {"name": [ids...], ...}
      split_names: {train: dev_train, val: dev_val}

    cases:                                      # a table somebody else wrote; {column} is replaced by the row's cell
      table: index.csv
      id: "{stem}"
      images: ["{subset}/images/{stem}.jpg"]
      labels: "{subset}/masks/{stem}.png"
      group: "{patient}"
      split: "{split}"
      split_names: {train: dev_train, val: dev_val}

With one mask file for each label, `labels` is ``{per_label: "{id}/segmentations/{label}.nii.gz"}``, where {label} is the
label's name; with one for each object, ``{per_object: "{id}/masks/*.png"}``. A file of ids beside the mask is `instances`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from voxelry.base.files import read_text
from voxelry.base.schema import Frozen, parse
from voxelry.errors import ManifestError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Case:
    """One examination to train on or to segment.

    Attributes:
        id: unique in its manifest, usable as a file name.
        images: the image file (or DICOM folder) of each channel; one file may hold several channels.
        labels: the reference mask, None where there is none or where `masks` holds it.
        masks: with one mask file per label: pairs of label name and file.
        objects: with one mask file per object: pairs of label name and file; None with other references.
        instances: the id map beside the mask, None where there is none.
        group: the patient; a group is never split.
        site: where the case comes from (a hospital, a scanner), which folds balance; empty where it is not known.
        split: ``train``, ``val``, ``test``, or None for a case that is not used.

    Examples:
        >>> from pathlib import Path
        >>> from voxelry.datasets import Case
        >>> case = Case("p1_ct", (Path("p1/ct.nii.gz"),), labels=Path("p1/liver.nii.gz"), group="p1")
        >>> case.has_labels, case.label_files[0].name
        (True, 'liver.nii.gz')
    """

    id: str
    images: tuple[Path, ...]
    labels: Path | None = None
    masks: tuple[tuple[str, Path], ...] = ()
    group: str = ""
    split: SplitName | None = None
    site: str = ""
    objects: tuple[tuple[str, Path], ...] | None = None
    instances: Path | None = None

    @property
    def has_labels(self) -> bool:
        """There is a reference to learn from or to score against."""
        return self.labels is not None or bool(self.masks) or self.objects is not None

    @property
    def label_files(self) -> tuple[Path, ...]:
        """Every file of the reference."""
        masks = (self.labels,) if self.labels is not None else tuple(file for _, file in (*self.masks, *(self.objects or ())))
        return masks if self.instances is None else (*masks, self.instances)

    @property
    def named_file(self) -> Path:
        """The file that messages about the reference name: its first, or the image where it has none (a case without objects)."""
        return (*self.label_files, *self.images)[0]

    def reference_image(self, channel: int | None = None) -> Path:
        """The image on whose grid the labels lie: that of the reference channel, numbered from 0, else the first."""
        return self.images[0] if len(self.images) == 1 else self.images[channel or 0]


class CaseRow(Frozen):
    """A case written out: paths as text, relative to the manifest's root."""

    id: str
    images: tuple[str, ...] = Field(min_length=1)
    labels: str | None = None
    instances: str | None = None
    group: str | None = None
    split: SplitName | None = None
    site: str | None = None

    @model_validator(mode="after")
    def _ids_beside_a_mask(self) -> Self:
        _check_mask(self.instances, self.labels)
        return self


class CaseRows(Frozen):
    """Cases written out one by one."""

    cases: tuple[CaseRow, ...] = ()


class MaskFiles(Frozen):
    """Several mask files of one case.

    Attributes:
        per_label: one for each label: a pattern with {label}.
        per_object: one for each object: a pattern with ``*``, and with {label} where there are several labels.
    """

    per_label: str | None = None
    per_object: str | None = None

    @model_validator(mode="after")
    def _one_with_its_wildcard(self) -> Self:
        if (self.per_label is None) == (self.per_object is None):
            raise ValueError("either per_label or per_object is expected")
        if self.per_label is not None:
            _with_placeholder(self.per_label, "{label}")
        if self.per_object is not None:
            _with_placeholder(self.per_object, "*")
        return self


class _Files(Frozen):
    images: tuple[str, ...] = Field(min_length=1)
    labels: str | MaskFiles | None = None
    instances: str | None = None
    group_pattern: str | None = None
    split_names: dict[SplitName, str] = Field(default_factory=dict)

    def reference_patterns(self, names: Sequence[str]) -> list[str]:
        """The patterns of the files of the reference, those of every label."""
        masks = self.labels if isinstance(self.labels, MaskFiles) else MaskFiles.model_construct()
        plain = [pattern for pattern in (self.labels, self.instances) if isinstance(pattern, str)]
        each = [pattern for pattern in (masks.per_label, masks.per_object) if pattern is not None]
        return [*plain, *(pattern.replace("{label}", name) for pattern in each for name in names)]

    @model_validator(mode="after")
    def _ids_beside_a_mask(self) -> Self:
        _check_mask(self.instances, self.labels)
        return self

    @field_validator("group_pattern")
    @classmethod
    def _is_regex(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"it is no regular expression: {error}") from error
        return pattern


class FoundFiles(_Files):
    """Cases found by file pattern."""

    split_file: str | None = None

    @field_validator("images")
    @classmethod
    def _has_wildcard(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_with_placeholder(pattern, "{id}") for pattern in patterns)


class TableFiles(_Files):
    """Cases named by the rows of a table; with `where` by those whose cells of these columns are these."""

    table: str
    where: dict[str, str] = Field(default_factory=dict)
    id: str
    group: str | None = None
    split: str | None = None
    site: str | None = None


CaseList: TypeAlias = CaseRows | FoundFiles | TableFiles


def parse_cases(value: Any, manifest: Path) -> CaseList:
    """Recognise the form of a manifest's `cases` and validate it.

    Args:
        value: plain data: a list of rows, a mapping of patterns, or the name of a CSV file beside the manifest.
        manifest: the manifest's file.

    Raises:
        ManifestError: it has none of the forms, or a key is wrong.
    """
    if isinstance(value, str):
        return parse(CaseRows, {"cases": _csv_rows(manifest.parent / value)}, str(manifest.parent / value), ManifestError)
    if isinstance(value, list | tuple):
        return parse(CaseRows, {"cases": value}, str(manifest), ManifestError)
    if isinstance(value, dict):
        where = f"{manifest}, cases"
        return (
            parse(TableFiles, value, where, ManifestError) if "table" in value else parse(FoundFiles, value, where, ManifestError)
        )
    raise ManifestError(
        f"{manifest}: key 'cases' is {value!r}",
        remedy="Give a list of cases, a mapping of file patterns, or the name of a CSV file.",
    )


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for cells in read_table(path):
        row: dict[str, Any] = {key: cell for key, cell in cells.items() if cell and not key.startswith("image")}
        row["images"] = [cell for key, cell in cells.items() if key.startswith("image") and cell]
        rows.append(row)
    return rows


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a table of text, its columns separated by comma, semicolon or tab (whichever the header has most of).

    Raises:
        MissingFileError: no such file.
        ManifestError: no rows, a column named twice, or a row with more or fewer cells than the header.
    """
    text = read_text(path).removeprefix("\ufeff")
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    columns = [name.strip() for name in next(reader, [])]
    if len(set(columns)) < len(columns):
        raise ManifestError(f"{path}: a column occurs twice in the header ({', '.join(columns)})")
    rows = []
    for cells in filter(None, reader):
        if len(cells) != len(columns):
            raise ManifestError(f"{path}: line {reader.line_num} has {len(cells)} cells, the header {len(columns)}")
        rows.append(dict(zip(columns, (cell.strip() for cell in cells), strict=True)))
    if not rows:
        raise ManifestError(f"{path}: no rows", remedy="A header line and one line per case are expected.")
    return rows


def _check_mask(ids: str | None, labels: str | MaskFiles | None) -> None:
    """Refuse a file of ids without a mask of classes beside it, or with files that tell objects apart already."""
    if ids is not None and isinstance(labels, MaskFiles) and labels.per_object is not None:
        raise ValueError(
            f"instances '{ids}' is a file of ids, and `per_object` has a file for each object already; give one of them"
        )
    if ids is not None and labels is None:
        raise ValueError(
            f"instances '{ids}' is a file of ids without a mask of classes as `labels` beside it; where all objects "
            "have one label, give it as `labels`, with `instances: mask_ids` in the card"
        )


def _with_placeholder(pattern: str, placeholder: str) -> str:
    if placeholder not in pattern:
        raise ValueError(f"'{pattern}' has no {placeholder} in it")
    return pattern
