"""Claim: a cohort is segmented at five times the scans per hour of `nnUNetv2_predict_from_modelfolder`.

    python benchmarks/cohort_nnunet.py [--volumes 12] [--hippocampi FOLDER --scans 1000] [--rounds 3]

Both get the same folder, weights and network, and are whole commands, run in turn: ours by PyTorch as it is and by OpenVINO
(extra `accelerate`), nnU-Net's as it is. Volumes of 150 x 150 x 120 voxels are segmented by an untrained network, whose labels
are nearly ties; real hippocampi by the starter model, whose labels must be the same. One of our backends must keep the claim.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from harness import PEERS, peers_python
from inference_contestants import model_of, plan_of

import voxelry
from cohort import CLASSES, LARGE, make_volumes
from voxelry.networks.weights import save_model

BACKENDS = ("torch", "openvino")
RATIO, LEAST_EQUAL = 5.0, 0.999
PATCH, FEATURES = (64, 64, 64), (32, 64, 128, 256)


def copies_of(scans: Path, folder: Path, count: int) -> Path:
    """A folder of so many scans, each under a name of its own."""
    folder.mkdir()
    files = sorted(scans.glob("*.nii.gz"))
    for number in range(count):
        file = files[number % len(files)]
        shutil.copy(file, folder / f"copy{number // len(files)}_{file.name}")
    return folder


def beside_nnunet(home: Path, peers: Path, model: str | Path, scans: Path, rounds: int) -> tuple[float, float]:
    """Run the commands in turn; the best ratio of scans per hour, and the least share of a scan's labels that are equal."""
    home.mkdir()
    theirs, results = home / "theirs", voxelry.export_model(model, home / "results", format="nnunet").folder
    theirs.mkdir()
    files = sorted(scans.iterdir())
    for file in files:
        shutil.copy(file, theirs / file.name.replace(".nii.gz", "_0000.nii.gz"))
    own, peer = Path(sys.executable).with_name("voxelry"), peers_python(peers).parent / "nnUNetv2_predict_from_modelfolder"
    commands = {name: [own, "predict", model, scans, "--backend", name, "--out"] for name in BACKENDS}
    commands["nnunet"] = [peer, "-i", theirs, "-m", next(results.glob("*__*")), "-f", "0", "-device", "cpu", "-o"]
    folders = {name: str(home) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds):
        for name, line in commands.items():
            began = time.perf_counter()
            subprocess.run([*line, home / f"{name}_{turn}"], check=True, capture_output=True, env={**os.environ, **folders})
            seconds[name].append(time.perf_counter() - began)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    ratios, shares = [], []
    for name in BACKENDS:
        pairs = [(labels_of(home / f"{name}_0" / file.name), labels_of(home / "nnunet_0" / file.name)) for file in files]
        ratios.append(middle["nnunet"] / middle[name])
        shares.append(min(float(np.mean(ours == theirs)) for ours, theirs in pairs))
        under_way = rate(home / f"{name}_0") / rate(home / "nnunet_0")
        print(
            f"{len(files)} {scans.name}, {name}: {middle[name]:.0f} s, nnU-Net {middle['nnunet']:.0f} s: {ratios[-1]:.1f} times "
            f"the scans per hour, {under_way:.1f} times once under way; at least {shares[-1]:.4f} of a scan's labels are equal"
        )
    return max(ratios), min(shares)


def labels_of(file: Path) -> np.ndarray:
    """The voxels of a mask."""
    return np.asarray(nibabel.load(file).dataobj)


def rate(folder: Path) -> float:
    """Masks a second between the first and the last of a folder."""
    times = sorted(file.stat().st_mtime for file in folder.glob("*.nii.gz"))
    return (len(times) - 1) / (times[-1] - times[0])


def main() -> int:
    """Compare on both folders; 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=12, help="generated scans; 0 leaves them out")
    parser.add_argument("--hippocampi", type=Path, help="folder of real scans, copied until there are --scans")
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=PEERS, help="environment of nnU-Net, built where it is missing")
    choices = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    held = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if choices.volumes:
            save_model(model_of(plan_of(PATCH, FEATURES, (1.0, 1.0, 1.0)), CLASSES, LARGE), home / "wide")
            volumes = make_volumes(home / "volumes", LARGE, choices.volumes)
            held.append(beside_nnunet(home / "wide_runs", choices.peers, home / "wide", volumes, choices.rounds)[0] >= RATIO)
        if choices.hippocampi is not None:
            scans = copies_of(choices.hippocampi, home / "hippocampi", choices.scans)
            ratio, equal = beside_nnunet(home / "hippocampus_runs", choices.peers, "hippocampus", scans, choices.rounds)
            held.append(ratio >= RATIO and equal >= LEAST_EQUAL)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
