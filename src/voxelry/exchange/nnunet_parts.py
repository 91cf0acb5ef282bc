"""Imports several nnU-Net models as the parts of one, such as TotalSegmentator's: a declared table names all their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from voxelry.base.files import read_yaml
from voxelry.base.listing import shown
from voxelry.core.labels import LabelTable
from voxelry.core.model import Model
from voxelry.errors import ModelError
from voxelry.exchange.nnunet_import import import_results


def import_parts(
    folders: Sequence[Path],
    names: Mapping[int, str] | Mapping[str, str] | Path,
    folds: Sequence[str] = (),
    orientation: str | None = None,
) -> tuple[Model, ...]:
    """The models of several results folders, as parts of one.

    Args:
        folders: results folders; where two give a voxel a label, the later one's counts.
        names: value -> name of every label of the whole, or a JSON or YAML file of it; the parts' labels are found by name.
        folds: as of `import_results`.
        orientation: as of `import_results`.

    Raises:
        ModelError: a label of a part is not in the table, or a label of the table in no part; or as `import_results`.
        LabelError: values or names that are no table.
    """
    table = LabelTable.from_id2label(read_yaml(names) if isinstance(names, Path) else names)
    models = [(folder, model) for folder in folders for model in import_results(folder, folds, orientation)]
    for folder, model in models:
        unknown = [name for name in model.labels.names if name not in table.names]
        if unknown:
            raise ModelError(f"{folder}: labels {shown(unknown)} are not in the table of the whole", remedy="Add them to it.")
    given = {name for _, model in models for name in model.labels.names}
    missing = [name for name in table.names if name not in given]
    if missing:
        raise ModelError(
            f"no part gives {shown(missing)}", remedy="Name the folder of every part, or leave these out of the table."
        )
    return tuple(_as_part(model, table) for _, model in models)


def _as_part(model: Model, table: LabelTable) -> Model:
    card = model.card.model_copy(update={"labels": table, "classes": model.labels.names})
    return replace(model, card=card, previous=None if model.previous is None else _as_part(model.previous, table))
