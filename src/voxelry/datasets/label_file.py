"""Reads a label table from a file: a dataset card, a `dataset.json`, or a mapping of values and names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxelry.base.files import read_json, read_yaml
from voxelry.base.schema import parse
from voxelry.core.labels import LabelTable
from voxelry.errors import ConfigError


def load_label_file(path: str | os.PathLike[str]) -> LabelTable:
    """Read a label table.

    Args:
        path: YAML or JSON with ``labels``: a list as dataset cards have it, or a mapping of values to names (Decathlon) or of
            names to values (nnU-Net); or such a mapping by itself.

    Returns:
        The table. ``ignore`` of the file, or a label of that name, is its ignore value.

    Raises:
        ConfigError: no labels there, or not what a table allows.
        MissingFileError: no such file.

    Examples:
        >>> from pathlib import Path
        >>> from voxelry.datasets import load_label_file
        >>> _ = Path("labels.yaml").write_text("{1: liver, 2: spleen}")
        >>> load_label_file("labels.yaml").names
        ('liver', 'spleen')
    """
    file = Path(path)
    content = read_json(file) if file.suffix.lower() == ".json" else read_yaml(file)
    labels = content.get("labels", content)
    if isinstance(labels, Mapping):
        pairs = [_pair(key, value, file) for key, value in labels.items()]
        ignored_values = [value for value, name in pairs if name == "ignore"]
        if len(ignored_values) > 1:
            raise ConfigError(f"{file}: values {ignored_values} are all called 'ignore'", remedy="Ignore one value.")
        ignored = next(iter(ignored_values), None)
        rows: Any = [{"value": value, "name": name} for value, name in pairs if value != ignored and value != 0]
    else:
        rows, ignored = labels, content.get("ignore")
    return parse(LabelTable, {"labels": rows, "ignore": ignored}, str(file))


def _pair(key: Any, value: Any, file: Path) -> tuple[int, str]:
    """Value and name, whichever comes first."""
    for number, name in ((key, value), (value, key)):
        if str(number).isdecimal() and isinstance(name, str):
            return int(number), name
    raise ConfigError(
        f"{file}: {key!r}: {value!r} is no label", remedy="Give values with names, such as {1: liver}, or a dataset card."
    )
