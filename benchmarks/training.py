"""Accuracy of training in a given time, alone and side by side with nnU-Net: the same cases and machine, one run at a time.

    VOXELRY_DATA=... python benchmarks/training.py                          # all, about five hours
    VOXELRY_DATA=... python benchmarks/training.py --only hippocampus_10
    VOXELRY_DATA=... python benchmarks/training.py --only side --minutes 10 --device cuda

Alone: a recipe of `configs/` for the minutes of its bar, preparation counted. Side by side (hippocampus), for each seed: nnU-Net
for a number of minutes (`training_nnunet.py`; its preparation is not counted), voxelry for the same (preparation counted), and
voxelry for a tenth of that. All are scored by voxelry on the validation cases' own grids. The claims: the bars, and that
voxelry's Dice after a tenth of the time, and after the same time, is not below nnU-Net's. The share of the time that training
waits for batches is printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from harness import HERE, PEERS, peers_python, print_rows

from voxelry import api
from voxelry.metrics.scores import Scores

CONFIGS = HERE.parent / "configs"
RECIPE = CONFIGS / "hippocampus.yaml"
MANIFEST = HERE.parent / "data_manifests" / "hippocampus.yaml"
ALONE = {
    "hippocampus_10": (RECIPE, 10.0, 0.875),
    "hippocampus_60": (CONFIGS / "hippocampus_long.yaml", 60.0, 0.89),
    "cxr_lung_30": (CONFIGS / "cxr_lung.yaml", 30.0, 0.96),
}
"""Recipe, minutes, and the claimed Dice."""
TENTH = 0.1


def ours(recipe: Path, folder: Path, minutes: float, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train by a recipe for a number of minutes."""
    changes = [f"seed={seed}", f"device={options.device}"]
    result = api.train(recipe, folder, changes=changes, time_budget=minutes * 60, root=options.root)
    assert result.scores is not None
    waited = statistics.mean(milestone.waited for milestone in result.history)
    return accuracy(result.scores) | {"waited": waited, "steps": result.history[-1].step, "seconds": result.seconds}


def accuracy(scores: Scores) -> dict[str, Any]:
    """Mean Dice, and mean NSD in mm or pixels."""
    summary = scores.to_dict()
    nsd = [row[name] for row in summary["labels"].values() for name in ("nsd", "nsd_px") if name in row]
    return {"dice": summary["mean_dice"], "nsd": statistics.mean(nsd)}


def theirs(python: Path, folder: Path, minutes: float, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train nnU-Net for a number of minutes, and score its predictions."""
    script = [python, HERE / "training_nnunet.py", MANIFEST, options.root, folder]
    command = [*map(str, script), "--minutes", str(minutes), "--seed", str(seed), "--device", options.device]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src")}
    process = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=True)
    output = json.loads(process.stdout.strip().splitlines()[-1])
    scores = api.evaluate(MANIFEST, output["predictions"], metrics=("overlap", "surface"), root=options.root)
    return accuracy(scores) | {"waited": 0.0, "steps": output["steps"], "seconds": output["seconds"]}


def alone(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One bar."""
    recipe, minutes, bar = ALONE[name]
    measured = ours(recipe, folder / name, minutes, 0, options)
    return row("voxelry", name, minutes, 0, measured) | {"bar": bar, "holds": measured["dice"] >= bar}


def side_by_side(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every seed of both programs."""
    python, rows = peers_python(options.peers), []
    minutes = options.minutes
    for seed in options.seeds:
        for length in (minutes, TENTH * minutes):
            measured = ours(RECIPE, folder / f"voxelry_{seed}_{length:g}", length, seed, options)
            rows.append(row("voxelry", "side", length, seed, measured))
        rows.append(row("nnU-Net", "side", minutes, seed, theirs(python, folder / "nnunet", minutes, seed, options)))
    peer = mean(rows, "nnU-Net", minutes)
    for entry in rows:
        entry["bar"] = peer
        entry["holds"] = entry["contestant"] == "nnU-Net" or mean(rows, "voxelry", entry["minutes"]) >= peer
    return rows


def row(contestant: str, task: str, minutes: float, seed: int, measured: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, also printed at once."""
    numbers = {name: round(value, 4) for name, value in measured.items()}
    entry = {"contestant": contestant, "task": task, "minutes": minutes, "seed": seed} | numbers
    print(json.dumps(entry), flush=True)
    return entry


def mean(rows: list[dict[str, Any]], contestant: str, minutes: float) -> float:
    """Mean Dice over seeds."""
    return statistics.mean(values_of(rows, contestant, minutes))


def values_of(rows: list[dict[str, Any]], contestant: str, minutes: float) -> list[float]:
    """Dice of each seed."""
    return [
        entry["dice"] for entry in rows if (entry["contestant"], entry["minutes"], entry["task"]) == (contestant, minutes, "side")
    ]


def main() -> int:
    """Run all, print the table; 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"tasks whose name contains this: {', '.join(ALONE)}, side")
    parser.add_argument("--minutes", type=float, default=30, help="of nnU-Net, and of voxelry side by side")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--root", type=Path, default=os.environ.get("VOXELRY_DATA"))
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' virtual environment")
    parser.add_argument("--out", type=Path, help="keep the runs there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        rows = [alone(name, folder, options) for name in ALONE if options.only in name]
        if options.only in "side":
            rows += side_by_side(folder, options)
    print_rows(rows, ("torch", "monai", "nnunetv2"))
    for contestant, minutes in {(entry["contestant"], entry["minutes"]): None for entry in rows if entry["task"] == "side"}:
        dice = values_of(rows, contestant, minutes)
        spread = statistics.stdev(dice) if len(dice) > 1 else 0.0
        print(f"{contestant} after {minutes:g} min: Dice {statistics.mean(dice):.4f} +- {spread:.4f} ({len(dice)} seeds)")
    return 0 if all(entry["holds"] for entry in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
