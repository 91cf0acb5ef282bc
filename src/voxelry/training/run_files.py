"""Files of a run: recipe, fingerprint, scores. Each appears whole or not at all."""

from __future__ import annotations

import csv
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxelry.base.files import atomic_path, read_json, read_yaml, write_json, write_yaml
from voxelry.base.schema import parse
from voxelry.core.plan import Fingerprint, Region
from voxelry.datasets.cases import Case
from voxelry.errors import TrainingError
from voxelry.metrics.scores import Scores
from voxelry.recipes.recipe import LENGTHS, Config, parse_config
from voxelry.recipes.recipe_changes import differences

log = logging.getLogger(__name__)

COMPRESSION_FILE = "compression.json"
"""Of a student: the comparison with its teacher."""
RECIPE_FILE = "recipe.yaml"
FINGERPRINT_FILE = "fingerprint.json"
SPLIT_FILE = "split.json"
VALIDATION_FILE = "validation.json"
ROWS_FILE = "validation.csv"
CURVE_FILES = ("curves.html", "curves.svg")
MODEL_FOLDER = "model"
PREDICTIONS_FOLDER = "predictions"
HISTORY_FILE = "history.jsonl"
CHOICE_FILE = "choice.json"
"""Of a cross-validation: what was compared and chosen."""
ENSEMBLES_FOLDER = "ensembles"


def save_recipe(config: Config, folder: Path) -> None:
    """Write the recipe as it was used, with every key: an explicit null differs from a key left out."""
    write_yaml(folder / RECIPE_FILE, config.model_dump(mode="json"))


def load_recipe(folder: Path) -> Config:
    """The recipe that a run began with."""
    return parse_config(read_yaml(folder / RECIPE_FILE), str(folder / RECIPE_FILE))


def recorded_recipe(config: Config, folder: Path) -> Config | None:
    """The recipe that a run began with, whose length of training it keeps; None where no run began.

    Raises:
        TrainingError: it differs from `config` in more than the length of training.
    """
    if not (folder / RECIPE_FILE).is_file():
        return None
    recorded = load_recipe(folder)
    refuse_other_recipe(folder, recorded, config, LENGTHS)
    return recorded


def refuse_other_recipe(folder: Path, recorded: Config, config: Config, ignored: Collection[str] = ()) -> None:
    """Refuse to go on with another recipe than a run began with.

    Args:
        folder: folder of the run.
        recorded: the recipe that it began with.
        config: the recipe to go on with.
        ignored: keys that may differ.

    Raises:
        TrainingError: they differ; every key is named with both values.
    """
    changes = differences(recorded.model_dump(mode="json"), config.model_dump(mode="json"), ignored)
    if changes:
        raise TrainingError(
            f"{folder}: the run began with another recipe ({'; '.join(changes)})",
            remedy="Continue with the same, or choose another --out.",
        )


def save_split(training: Sequence[Case], validation: Sequence[Case], folder: Path) -> None:
    """Write which cases a run trains on, and which it validates on."""
    write_json(folder / SPLIT_FILE, {"train": [case.id for case in training], "val": [case.id for case in validation]})


def recorded_split(cases: Sequence[Case], folder: Path) -> tuple[list[Case], list[Case]] | None:
    """The cases that a run began with, training and validation; cases that came later are left out, with a warning.

    Args:
        cases: all labelled cases of the dataset as it is now.
        folder: folder of the run.

    Returns:
        None where an earlier version recorded no split.

    Raises:
        TrainingError: a case of the run is no longer in the dataset.
    """
    file = folder / SPLIT_FILE
    if not file.is_file():
        return None
    record, known = read_json(file), {case.id: case for case in cases}
    ids: dict[str, list[str]] = {side: [str(id) for id in record.get(side, ())] for side in ("train", "val")}
    gone = [id for side in ids.values() for id in side if id not in known]
    if gone:
        raise TrainingError(
            f"{folder}: {len(gone)} of the run's cases are no longer in the dataset, or have no labels there ({shown(gone)})",
            remedy="Put them back, or start a new run with another --out.",
        )
    new = [id for id in known if id not in {*ids["train"], *ids["val"]}]
    if new:
        log.warning(
            "%s: a resumed run keeps its split, so %d cases that came later are left out (%s). Start a new run to use them",
            folder,
            len(new),
            shown(new),
        )
    moved = [id for side, own in ids.items() for id in own if known[id].split != side]
    if moved:
        log.warning("%s: %d cases are in another split now (%s); the run keeps its own", folder, len(moved), shown(moved))
    return [known[id] for id in ids["train"]], [known[id] for id in ids["val"]]


def shown(ids: Sequence[str]) -> str:
    """The first few ids."""
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")


def save_comparison(comparison: Mapping[str, Any], folder: Path) -> None:
    """Write how a student compares with its teacher."""
    write_json(folder / COMPRESSION_FILE, dict(comparison))


def save_fingerprint(fingerprint: Fingerprint, folder: Path) -> None:
    """Write the fingerprint of the cases."""
    write_json(folder / FINGERPRINT_FILE, fingerprint.model_dump(mode="json"))


def load_fingerprint(folder: Path) -> Fingerprint:
    """Read the fingerprint of a run's cases."""
    return parse(Fingerprint, read_json(folder / FINGERPRINT_FILE), str(folder / FINGERPRINT_FILE))


def save_validation(scores: Scores | None, folder: Path, regions: Sequence[Region] = ()) -> None:
    """Write the scores of held-out cases: a summary, and a table with a row for each case and label.

    Args:
        scores: scores of the cases; None where there are none.
        folder: folder of the files.
        regions: learnt in place of the labels, if any; where they unite labels the summary has their mean Dice too.
    """
    summary: dict[str, Any] = {} if scores is None else {**scores.to_dict(), "rows": scores.rows()}
    if scores is not None and any(len(region.labels) > 1 for region in regions):
        summary["regions"] = scores.region_dice({region.name: region.labels for region in regions})
    write_json(folder / VALIDATION_FILE, summary)
    rows: list[dict[str, Any]] = [] if scores is None else scores.rows()
    with atomic_path(folder / ROWS_FILE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else ["case", "label", "dice", "iou"])
        table.writeheader()
        table.writerows(rows)


def dice_by_name(scores: Scores | None) -> dict[str, float]:
    """Mean Dice over all labels (``dice``) and of each (``dice/liver``); labels without a value are left out."""
    if scores is None:
        return {}
    plain = scores.to_dict()
    values = {"dice": plain["mean_dice"], **{f"dice/{name}": of["dice"] for name, of in plain["labels"].items()}}
    return {name: value for name, value in values.items() if value is not None}
