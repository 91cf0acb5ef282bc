"""Files of a run: recipe, fingerprint, scores. Each appears whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxelry.base.files import atomic_path, read_json, read_yaml, write_json, write_yaml
from voxelry.base.schema import parse
from voxelry.core.plan import Fingerprint, Region
from voxelry.errors import TrainingError
from voxelry.metrics.scores import Scores
from voxelry.recipes.recipe import LENGTHS, Config, parse_config

RECIPE_FILE = "recipe.yaml"
FINGERPRINT_FILE = "fingerprint.json"
VALIDATION_FILE = "validation.json"
ROWS_FILE = "validation.csv"


def save_recipe(config: Config, folder: Path) -> None:
    """Write the recipe as it was used, with every key: an explicit null differs from a key left out."""
    write_yaml(folder / RECIPE_FILE, config.model_dump(mode="json"))


def recorded_recipe(config: Config, folder: Path) -> Config | None:
    """The recipe that a run began with, whose length of training it keeps; None where no run began.

    Raises:
        TrainingError: it differs from `config` in more than the length of training.
    """
    file = folder / RECIPE_FILE
    if not file.is_file():
        return None
    recorded = parse_config(read_yaml(file), str(file))
    theirs, ours = (recipe.model_dump(mode="json", exclude=set(LENGTHS)) for recipe in (recorded, config))
    changed_keys = [key for key in ours if ours[key] != theirs[key]]
    if changed_keys:
        raise TrainingError(
            f"{folder}: the run began with another recipe ({', '.join(changed_keys)})",
            remedy="Continue with the same, or choose another --out.",
        )
    return recorded


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
        regions: learnt in place of the labels, if any; the summary then has their mean Dice too.
    """
    summary: dict[str, Any] = {} if scores is None else {**scores.to_dict(), "rows": scores.rows()}
    if scores is not None and regions:
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
