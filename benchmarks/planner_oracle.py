"""nnU-Net's own plans for fingerprints of known sets, which `tests/planning/test_planner_oracle.py` holds ours against.

Needs nnunetv2 (`requirements.txt`). The fingerprints are read from `tests/planning/nnunet_plans.json` and the plans written back
there; shapes and spacings are typical of the published sets (hippocampus: of the 130 cases that we have), in nnU-Net's order
of axes: z, y, x.

    python benchmarks/planner_oracle.py
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "tests" / "planning" / "nnunet_plans.json"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def planners() -> dict[str, tuple[Any, dict[str, float]]]:
    """Planner classes and their arguments, by the name under which plans are kept."""
    from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner as plain
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as residual

    return {
        "plain": (plain.ExperimentPlanner, {}),
        "plain24": (plain.ExperimentPlanner, {"gpu_memory_target_in_gb": 24}),
        "M": (residual.nnUNetPlannerResEncM, {}),
        "L": (residual.nnUNetPlannerResEncL, {}),
        "XL": (residual.nnUNetPlannerResEncXL, {}),
    }


def ask(number: int, seen: dict[str, Any], planner: Any, arguments: dict[str, float]) -> dict[str, Any]:
    """What a planner answers to a fingerprint: of each configuration what ours is compared in."""
    name = f"Dataset{number:03d}_known"
    raw, prepared = (Path(os.environ[folder]) / name for folder in FOLDERS[:2])
    for folder in (raw, prepared):
        folder.mkdir()
    card = {
        "channel_names": {str(channel): "CT" for channel in range(seen["channels"])},
        "labels": {"background": 0, **{f"label {value}": value for value in range(1, seen["labels"] + 1)}},
        "numTraining": seen["cases"],
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": {"a": {"images": ["a.nii.gz"], "label": "a.nii.gz"}},
    }
    fingerprint = {
        "spacings": seen["spacings"],
        "shapes_after_crop": seen["shapes"],
        "foreground_intensity_properties_per_channel": {},
        "median_relative_size_after_cropping": 1.0,
    }
    (raw / "dataset.json").write_text(json.dumps(card))
    (prepared / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    with contextlib.redirect_stdout(io.StringIO()):
        plans = planner(name, **arguments).plan_experiment()
    found = {name: _numbers(one) for name, one in plans["configurations"].items()}
    return {"transpose": plans["transpose_forward"], **found}


def _numbers(configuration: dict[str, Any]) -> dict[str, Any]:
    if "architecture" not in configuration:
        return {}
    network = configuration["architecture"]["arch_kwargs"]
    return {
        "spacing": [round(float(size), 6) for size in configuration["spacing"]],
        "patch": [int(edge) for edge in configuration["patch_size"]],
        "batch": int(configuration["batch_size"]),
        "strides": _digits(network["strides"]),
        "kernels": _digits(network["kernel_sizes"]),
        "features": list(network["features_per_stage"]),
        "blocks": list(network.get("n_blocks_per_stage", [])),
    }


def _digits(rows: list[list[int]]) -> str:
    """Rows of digits: ``111 222``."""
    return " ".join("".join(str(int(one)) for one in row) for row in rows)


def text(known: dict[str, Any]) -> str:
    """JSON with a set, and a configuration, in each line."""

    def lines(rows: dict[str, Any], indent: str) -> str:
        return ",\n".join(f"{indent}{json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in rows.items())

    plans = ",\n".join(f"  {json.dumps(name)}: {{\n{lines(rows, '   ')}\n  }}" for name, rows in known["plans"].items())
    made_by = json.dumps(known["made_by"])
    return f'{{\n "made_by": {made_by},\n "sets": {{\n{lines(known["sets"], "  ")}\n }},\n "plans": {{\n{plans}\n }}\n}}\n'


def main() -> None:
    """Ask every planner about every set."""
    sets = json.loads(FILE.read_text())["sets"]
    with tempfile.TemporaryDirectory() as root:
        for folder in FOLDERS:
            os.environ[folder] = str(Path(root) / folder)
            Path(root, folder).mkdir()
        asked = [(name, kind, *how) for name in sets for kind, how in planners().items()]
        plans = {f"{name}/{kind}": ask(number, sets[name], *how) for number, (name, kind, *how) in enumerate(asked, start=1)}
    made_by = f"nnunetv2 {version('nnunetv2')}; axes are its own: z, y, x, the coarsest moved first"
    FILE.write_text(text({"made_by": made_by, "sets": sets, "plans": plans}))


if __name__ == "__main__":
    main()
