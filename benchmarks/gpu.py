"""The claim: on a GPU at least 85 % of the time that voxelry takes for a scan is the network's, and its peers take longer.

    python benchmarks/gpu.py [--quick] [--device cuda] [--rounds N] [--peers FOLDER] [--json FILE]

A scan of 400 x 450 x 450 voxels, which the network sees as 266 x 288 x 288, 14 classes; nnU-Net's plain U-Net with 32 to 320
features, patches of 128 x 128 x 128 that overlap by half, no flips; convolutions in the half type that each program takes by
itself. Everyone runs the same network with the same weights, trained for some seconds on that scan. voxelry prepares the scan
within its time; its peers are given what it prepared. `network` is the time from the network's first kernel to its last, pass by
pass, by the device's own clock, as a share of the wall time; `equal` is the share of voxels with the same label as ours. Each
contestant runs in a process of its own, in turn; figures are medians. Without a GPU nothing runs.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import inference_contestants as contestants
import numpy as np
import torch
from harness import Contestant, parser_of, peers_python, print_rows, serve
from torch import nn

NETWORK_SHARE = 0.85
NAMES = ("voxelry", "monai", "nnunet")
LIBRARIES = ("numpy", "numba", "torch", "monai")
LARGE = contestants.Size((400, 450, 450), (266, 288, 288), (128, 128, 128), (32, 64, 128, 256, 320, 320))


class Stopwatch:
    """Seconds that a network takes, pass by pass, without waiting for the device in between.

    Args:
        device: where it is.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.marks: list[Any] = []

    def watch(self, network: nn.Module) -> None:
        """Take the time of every pass from now on."""
        network.register_forward_pre_hook(lambda *_: self._mark())
        network.register_forward_hook(lambda *_: self._mark())

    def _mark(self) -> None:
        if not self.on_gpu:
            self.marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.marks.append(event)

    def seconds(self) -> float:
        """Of all passes since the last call."""
        pairs = list(zip(self.marks[::2], self.marks[1::2], strict=True))
        self.marks = []
        if not self.on_gpu:
            return float(sum(end - start for start, end in pairs))
        torch.cuda.synchronize()
        return float(sum(start.elapsed_time(end) for start, end in pairs)) / 1000


def work(name: str, inputs: Path) -> None:
    """A contestant's process: loaded and warm, one run for each line of standard input; labels go to ``NAME.npy``."""
    device = torch.device((inputs / "device").read_text())
    stopwatch = Stopwatch(device)
    job = getattr(contestants, name)(inputs, str(device), stopwatch.watch)
    job()
    stopwatch.seconds()

    def run() -> dict[str, float]:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        labels = job()
        wall = time.perf_counter() - start
        np.save(inputs / f"{name}.npy", labels)
        peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
        return {"seconds": wall, "network": stopwatch.seconds(), "device_mb": peak}

    serve(run)


def race(python: Path, inputs: Path, rounds: int, device: str) -> list[dict[str, Any]]:
    """Contestants in turn; a row each."""
    runners = [Contestant(python, __file__, name, inputs) for name in NAMES]
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        for runner in runners:
            runner.run()
            answers[runner.name].append(runner.answer)
    for runner in runners:
        runner.close()
    ours = np.load(inputs / "voxelry.npy")
    usual = statistics.median(one["seconds"] for one in answers["voxelry"])
    rows = []
    for runner in runners:
        mine = answers[runner.name]
        seconds = statistics.median(one["seconds"] for one in mine)
        share = statistics.median(one["network"] / one["seconds"] for one in mine)
        rows.append(
            {
                "device": device,
                "contestant": runner.name,
                "seconds": round(seconds, 3),
                "times ours": round(seconds / usual, 2),
                "network": f"{share:.1%}",
                "device_mb": round(max(one["device_mb"] for one in mine)),
                "host_extra_mb": round(runner.extra_mb),
                "equal": round(float(np.mean(np.load(inputs / f"{runner.name}.npy") == ours)), 6),
                "holds": bool(share >= NETWORK_SHARE) if runner.name == "voxelry" else seconds >= usual,
            }
        )
    return rows


def main() -> int:
    """Run the contestants, print the table."""
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--device", default="cuda", help="'cpu' checks the script where no GPU is")
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], Path(options.worker[1]))
        return 0
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("No GPU is at hand: nothing was measured.")
        return 0
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    python = peers_python(options.peers)
    with tempfile.TemporaryDirectory() as folder:
        contestants.make_inputs(Path(folder), contestants.QUICK if options.quick else LARGE, device=device)
        inputs = Path(folder) / "model"
        (inputs / "device").write_text(options.device)
        rows = race(python, inputs, 1 if options.quick else options.rounds, name)
    print_rows(rows, LIBRARIES)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if options.quick or all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
