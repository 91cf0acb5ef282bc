"""The claim: voxelry segments faster than nnU-Net and MONAI by the factors below, in a third of their memory, within a budget.

    python benchmarks/inference.py [--quick] [--only WORD] [--rounds N] [--peers FOLDER] [--json FILE]

- `end to end`, `random`: 136 x 192 x 192 voxels to labels of 204 x 300 x 300, 14 classes, a plain U-Net with 8 to 80 features,
  patches of 64 x 128 x 128 that overlap by half, no flips, on a CPU. All run the same network with the same weights.
  voxelry starts from the scan and prepares it within its time; its peers start from the prepared scan. Weights are trained for a
  minute on a scan of 13 organs that differ in grey value (`end to end`), since fresh weights (`random`) give near ties in most
  voxels, as no trained model does: the worst case of interpolating all classes only where labels meet.
- `logits`: 105 classes of 200 x 256 x 256 half floats, made up, to labels of 300 x 400 x 400. nnU-Net's export is timed on 8 of
  them, and its seconds are scaled by 105 / 8; `equal` and its memory are of those 8.
- `memory`: peak resident memory of a whole process that segments a phantom of 512 x 512 voxels and 500 or 1000 slices with 14 or
  105 classes under a budget of 4 GiB. Patches lie side by side there: overlap costs time, but no memory.

Every contestant runs in a process of its own, in turn (ours, theirs, ours, theirs...); figures are ratios of medians. `equal` is
the share of voxels with the same label (nnU-Net places patches differently, so it is not 1). Extra memory is the peak of
resident memory during a run less that before it. Exits with 1 if a claim does not hold.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Contestant, parser_of, peers_python, print_rows, serve

SLOW_SECONDS = 90.0
LIBRARIES = ("numpy", "numba", "torch", "monai", "nnunetv2", "openvino", "onnxruntime", "scikit-image")
EAGER = "voxelry_float32"
OURS = (EAGER, "voxelry", "voxelry_compile", "voxelry_openvino", "voxelry_openvino_float32", "voxelry_onnxruntime")
EAGER_CLAIMS = {"nnunet": 2.5, "monai": 1.3}
BEST_CLAIMS = {"nnunet": 5.0, "monai": 2.5}
MEMORY_SHARE = 1 / 3
EQUAL = 0.99
MANY, FEW, LOGITS_RATIO, LOGITS_MB = 105, 8, 20.0, 150.0


def work(name: str, inputs: Path) -> None:
    """A contestant's process: loaded and warm, one run for each line of standard input; labels go to ``NAME.npy``."""
    if name.startswith("segment"):
        import inference_memory

        serve(inference_memory.segment(*(int(number) for number in name.split("_")[1:])))
        return
    job = _job(name, inputs)

    def run() -> dict[str, float]:
        np.save(inputs / f"{name}.npy", job())
        return {}

    serve(run)


def _job(name: str, inputs: Path) -> Any:
    import inference_contestants as contestants

    choices = {
        EAGER: {"backend": "torch", "mixed_precision": "off"},
        "voxelry": {"backend": "torch"},
        "voxelry_compile": {"backend": "compile"},
        "voxelry_openvino": {"backend": "openvino"},
        "voxelry_openvino_float32": {"backend": "openvino", "mixed_precision": "off"},
        "voxelry_onnxruntime": {"backend": "onnxruntime"},
    }
    if name in choices:
        return contestants.voxelry(inputs, "cpu", **choices[name])
    if name in ("monai", "nnunet"):
        return getattr(contestants, name)(inputs, "cpu")
    import inference_logits

    return {
        "logits_voxelry": partial(inference_logits.voxelry, classes=MANY),
        "few_voxelry": partial(inference_logits.voxelry, classes=FEW),
        "few_nnunet": partial(inference_logits.nnunet, classes=FEW),
    }[name](inputs)


def race(names: tuple[str, ...], python: Path, inputs: Path, rounds: int) -> dict[str, Contestant]:
    """Run contestants in turn."""
    runners = {name: Contestant(python, __file__, name, inputs) for name in names}
    for number in range(rounds):
        for runner in runners.values():
            if number == 0 or runner.seconds[0] < SLOW_SECONDS:
                runner.run()
    for runner in runners.values():
        runner.close()
    return runners


def median(runner: Contestant) -> float:
    """Seconds of its runs."""
    return statistics.median(runner.seconds)


def row(
    title: str, ours: Contestant, peer: Contestant, claimed: float | None, equal: float, scale: float = 1.0
) -> dict[str, Any]:
    """A line of the table; the caller adds whether its claim holds."""
    return {
        "task": title,
        "ours": ours.name,
        "peer": peer.name,
        "ours_s": round(median(ours), 2),
        "peer_s": round(scale * median(peer), 2),
        "ratio": round(scale * median(peer) / median(ours), 2),
        "claimed": claimed,
        "ours_extra_mb": round(ours.extra_mb),
        "peer_extra_mb": round(peer.extra_mb),
        "equal": round(equal, 6),
    }


def end_to_end(title: str, python: Path, inputs: Path, names: tuple[str, ...], rounds: int) -> list[dict[str, Any]]:
    """Whole segmentations; claims are made for PyTorch in float32, and for the fastest of ours, on trained weights."""
    runners = race((*names, *BEST_CLAIMS), python, inputs, rounds)
    labels = {name: np.load(inputs / f"{name}.npy", mmap_mode="r") for name in runners}
    best = min(names, key=lambda name: median(runners[name]))
    rows = []
    for name in names:
        for peer in BEST_CLAIMS:
            claims = BEST_CLAIMS if name == best else EAGER_CLAIMS if name == EAGER else {}
            claimed = claims.get(peer) if title == "end to end" else None
            line = row(title, runners[name], runners[peer], claimed, float(np.mean(labels[name] == labels[peer])))
            lean = runners[name].extra_mb <= MEMORY_SHARE * runners[peer].extra_mb
            line["holds"] = claimed is None or bool(line["ratio"] >= claimed and lean and line["equal"] >= EQUAL)
            rows.append(line)
    return rows


def from_logits(python: Path, inputs: Path, rounds: int) -> list[dict[str, Any]]:
    """Labels from arrays of logits."""
    runners = race(("logits_voxelry", "few_voxelry", "few_nnunet"), python, inputs, rounds)
    labels = [np.load(inputs / f"{name}.npy", mmap_mode="r") for name in ("few_voxelry", "few_nnunet")]
    equal = float(np.mean(labels[0] == labels[1]))
    many = row(f"logits, {MANY} classes", runners["logits_voxelry"], runners["few_nnunet"], LOGITS_RATIO, equal, MANY / FEW)
    many["peer"] = f"few_nnunet, scaled by {MANY}/{FEW}"
    few = row(f"logits, {FEW} classes", runners["few_voxelry"], runners["few_nnunet"], None, equal)
    many["holds"] = bool(many["ratio"] >= LOGITS_RATIO and many["ours_extra_mb"] < LOGITS_MB and equal >= EQUAL)
    return [many, few | {"holds": True}]


def main() -> int:
    """Run the tasks, print the tables."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("--only", default="", help="tasks whose title holds this: end to end, random, logits, memory")
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], Path(options.worker[1]))
        return 0
    python, rounds = peers_python(options.peers), 1 if options.quick else options.rounds
    tasks = [title for title in ("end to end", "random", "logits", "memory") if options.only in title]
    with tempfile.TemporaryDirectory() as folder:
        rows, memory = compare(tasks, python, Path(folder), rounds, options.quick)
    for table in (rows, memory):
        if table:
            print_rows(table, LIBRARIES)
            print()
    if options.json:
        options.json.write_text(json.dumps([*rows, *memory], indent=1) + "\n")
    return 0 if options.quick or all(line["holds"] for line in [*rows, *memory]) else 1


def compare(
    tasks: list[str], python: Path, folder: Path, rounds: int, quick: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of comparisons, and rows about the budget."""
    import inference_contestants as contestants
    import inference_logits
    import inference_memory

    from voxelry.inference.backends import installed_backends

    here = installed_backends(contestants.CPU)
    ours = tuple(name for name in OURS if name in (EAGER, "voxelry") or name.split("_")[1] in here)
    rows: list[dict[str, Any]] = []
    if {"end to end", "random"} & set(tasks):
        contestants.make_inputs(folder, contestants.QUICK if quick else contestants.Size())
    if "end to end" in tasks:
        rows += end_to_end("end to end", python, folder / "model", ours, rounds)
    if "random" in tasks:
        rows += end_to_end("random", python, folder / "random", (EAGER,), 1)
    if "logits" in tasks:
        inference_logits.make_inputs(folder, (20, 32, 32) if quick else (200, 256, 256), MANY)
        rows += from_logits(python, folder, rounds)
    memory: list[dict[str, Any]] = []
    if "memory" in tasks:
        across, slices = (96, 200) if quick else (512, 1000)
        names = [f"segment_{across}_{n}_{k}" for n, k in ((slices // 2, MANY), (slices, MANY), (slices, contestants.CLASSES))]
        runs = [race((name,), python, folder, 1)[name] for name in names]
        memory = inference_memory.judge([run.answer for run in runs], [median(run) for run in runs])
    return rows, memory


if __name__ == "__main__":
    sys.exit(main())
