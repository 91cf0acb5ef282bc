"""Claim: a batch of scans loses nothing, whatever is broken or killed, and costs little beside the bare loop.

    python benchmarks/cohort.py --only broken kills --scans 1000 --kills 20
    python benchmarks/cohort.py --only throughput overhead start memory

`broken`: 5 % of the scans are broken in ten ways; every scan is accounted for, each broken one with its reason, and the leading
process grows by less than 50 MB. `kills`: the same with the leading process or a worker killed at random times and run again;
outputs are bit for bit those of the undisturbed run. `throughput`: at least 1.5 times the scans per hour of the bare loop
(read, predict, write) on two processors where reading and writing take time (series of DICOM to NIfTI and SEG); small volumes
are told. `overhead`: one worker takes at most 5 % longer than the bare loop on scans of 2 s and more. `start`: a resumed run on
100,000 finished scans is under way in 3 s. `memory`: the peak of one worker grows by less than 50 MB from the tenth to the
fiftieth scan of a model of 105 classes. `cohort_nnunet.py` compares with nnU-Net.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
from inference_contestants import model_of, plan_of

from voxelry.cohort.batch import segment_scans
from voxelry.cohort.case_queue import CaseQueue
from voxelry.cohort.inputs import find_scans
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.cohort.scan_names import Scan
from voxelry.networks.weights import save_model
from voxelry.phantom.dataset import write_phantoms

LEADER = """
import sys, voxelry
voxelry.predict(*sys.argv[1:4], device="cpu", workers=int(sys.argv[4]), formats=sys.argv[5:], time_limit=20)
"""
SMALL, LARGE = (40, 44, 36), (150, 150, 120)
PATCH, FEATURES = (32, 32, 32), (8, 16, 32)
CLASSES = 4

FATAL = """
import os, time
from voxelry.formats import Format
FORMAT = Format(
    name="fatal", title="Fatal", noun="a fatal file", kind="image", endings=(".fatal",), recognise="fatal:is_fatal",
    read_image="fatal:end",
)
def is_fatal(head): return head.startswith(b"FATAL")
def end(path, options):
    deed = path.read_text().split()[1]
    if deed == "segfault": os.kill(os.getpid(), 11)
    if deed == "exit": os._exit(3)
    time.sleep(1000)
"""


def grey(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Noise around blocks of tissue."""
    rng = np.random.default_rng(seed)
    blocks = rng.normal(150, 300, [-(-n // 12) for n in shape])
    for axis in range(3):
        blocks = blocks.repeat(12, axis)
    return (blocks[tuple(slice(0, n) for n in shape)] + rng.normal(0, 30, shape)).astype(np.int16)


def write_scan(path: Path, shape: tuple[int, ...], seed: int) -> None:
    """A scan with voxels of 1 mm."""
    nibabel.save(nibabel.Nifti1Image(grey(shape, seed), np.eye(4)), path)


def with_nan(path: Path) -> None:
    """A scan with a NaN."""
    array = np.ones((20, 20, 20), np.float32)
    array[3, 4, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def cut(path: Path) -> None:
    """A scan that ends early."""
    write_scan(path, SMALL, 0)
    path.write_bytes(path.read_bytes()[:-2000])


def damaged(path: Path) -> None:
    """A scan whose compressed bytes are not those that were written."""
    write_scan(path, SMALL, 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    path.write_bytes(bytes(content))


def singular(path: Path) -> None:
    """A scan whose affine has no volume."""
    content = bytearray(nibabel.Nifti1Image(grey((20, 20, 20), 0), np.eye(4)).to_bytes())
    content[280:312] = bytes(32)  # srow_x and srow_y
    path.write_bytes(gzip.compress(bytes(content)))


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "text": (".nii.gz", lambda path: path.write_text("not an image"), "UnsupportedFormatError"),
    "empty": (".nii.gz", lambda path: path.touch(), "CorruptFileError UnsupportedFormatError MissingFileError"),
    "cut": (".nii.gz", cut, "CorruptFileError"),
    "damaged": (".nii.gz", damaged, "CorruptFileError"),
    "nan": (".nii.gz", with_nan, "NonFiniteError"),
    "singular": (".nii.gz", singular, "GeometryError CorruptFileError"),
    "lost": (".nii.gz", lambda path: path.symlink_to("nowhere.nii.gz"), "MissingFileError"),
    "segfault": (".fatal", lambda path: path.write_text("FATAL segfault"), "WorkerDeath"),
    "exit": (".fatal", lambda path: path.write_text("FATAL exit"), "WorkerDeath"),
    "hang": (".fatal", lambda path: path.write_text("FATAL hang"), "WorkerDeath"),
}
"""Way to be broken -> ending, how it is made, kinds of error that are right."""
_WAYS = list(BROKEN)


def make_scans(folder: Path, count: int, every: int) -> None:
    """Scans, one in `every` of them broken, way after way."""
    folder.mkdir()
    for number in range(count):
        if number % every == every - 1:
            way = _WAYS[number // every % len(_WAYS)]
            ending, make, _ = BROKEN[way]
            make(folder / f"scan{number:04d}_{way}{ending}")
        else:
            write_scan(folder / f"scan{number:04d}.nii.gz", SMALL, number)


def make_plugin(folder: Path) -> None:
    """A package that reads scans which end the process."""
    package = folder / "fatal-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: fatal\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[voxelry.formats]\nfatal = fatal:FORMAT\n")
    (folder / "fatal.py").write_text(FATAL)


def lead(
    home: Path, scans: Path, out: Path, workers: int, model: Path | None = None, formats: Sequence[str] = ("nifti",)
) -> subprocess.Popen[bytes]:
    """A run, as a process."""
    path = os.pathsep.join([str(home / "plugin"), str(Path(__file__).parents[1] / "src")])
    words = [sys.executable, "-c", LEADER, model or home / "model", scans, out, workers, *formats]
    return subprocess.Popen(list(map(str, words)), env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)


def digests(out: Path) -> dict[str, str]:
    """Every mask with its digest."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.glob("*.nii.gz"))}


def states(out: Path) -> dict[str, LedgerCase]:
    """What the ledger says; its key is the id, so that no case can be in it twice."""
    with Ledger(out, read_only=True) as ledger:
        return {case.id: case for case in ledger.cases()}


def wrong(cases: dict[str, LedgerCase], count: int) -> list[str]:
    """What is not as it must be."""
    faults = [] if len(cases) == count else [f"{len(cases)} of {count} scans in the ledger"]
    for id, case in cases.items():
        way = id.partition("_")[2]
        right = BROKEN[way][2].split() if way else [""]
        if (case.state == "failed") != bool(way) or case.error_class not in right:
            faults.append(f"{id}: {case.state}, {case.error_class} {case.error}")
    return faults


def broken(home: Path, count: int, workers: int) -> bool:
    """Every scan is accounted for, each broken one with its reason, and the leading process does not grow."""
    began, process = time.perf_counter(), lead(home, home / "scans", home / "undisturbed", workers)
    out, sizes, last = home / "undisturbed", dict[int, float](), 0.0
    while process.poll() is None:
        time.sleep(0.2)
        size = resident(process.pid)
        done = len(list(out.glob("scan*"))) if out.exists() else 0
        sizes[done], last = size or sizes.get(done, 0.0), size or last
    faults = wrong(states(out), count)
    among = [size for done, size in sizes.items() if 20 <= done < max(sizes)]  # the last one has the page and the tables, too
    grown = (among[-1] - among[0]) / 1e6
    print(
        f"broken: {count} scans in {time.perf_counter() - began:.0f} s, leader grew by {grown:.1f} MB from the 20th to the last, "
        f"by {(last - among[-1]) / 1e6:.1f} MB for tables and page, faults: {faults or 'none'}"
    )
    return not faults and grown < 50


def resident(pid: int) -> float:
    """Bytes that a process holds; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0.0


def kills(home: Path, count: int, workers: int, times: int, seed: int) -> bool:
    """The same outputs after random kills of leader and workers."""
    rng, out = random.Random(seed), home / "disturbed"
    killed = {"leader": 0, "worker": 0}
    process = lead(home, home / "scans", out, workers)
    while sum(killed.values()) < times and process.poll() is None:
        time.sleep(rng.uniform(2, 12))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pids = list(map(int, children.read_text().split())) if children.exists() else []
        if rng.random() < 0.5 and pids:
            os.kill(rng.choice(pids), signal.SIGKILL)
            killed["worker"] += 1
        elif process.poll() is None:
            process.kill()
            process.wait()
            killed["leader"] += 1
            process = lead(home, home / "scans", out, workers)
    process.wait()
    for _ in range(2):  # a scan whose worker was killed twice has failed: the next run does it
        lead(home, home / "scans", out, workers).wait()
    faults = wrong(states(out), count)
    same = digests(out) == digests(home / "undisturbed")
    partial = [path.name for path in out.iterdir() if path.name.startswith((".tmp", ".old"))]
    print(f"kills: {killed}, faults: {faults or 'none'}, outputs the same: {same}, partial files: {partial or 'none'}")
    return not faults and same and not partial


def compare(home: Path, folder: Path, workers: int, formats: Sequence[str] = ("nifti",), model: str = "model") -> float:
    """Seconds of the bare loop by seconds of a run, start-up left out, each the median of three, in turn."""
    import voxelry

    predictor = voxelry.load_model(home / model, device="cpu")
    scans = list(find_scans([folder]))
    segment_scans(predictor, scans[:1], home / f"warm_{folder.name}", formats)
    loops, runs = [], []
    for turn in range(3):
        began = time.perf_counter()
        outcomes = segment_scans(predictor, scans, home / f"loop_{folder.name}_{turn}", formats)
        loops.append(time.perf_counter() - began)
        out = home / f"run_{folder.name}_{turn}"
        lead(home, folder, out, workers, home / model, formats).wait()
        cases = sorted(states(out).values(), key=lambda case: case.ended)
        failed = [each.error for each in [*outcomes, *cases] if each.error]
        if failed:
            raise RuntimeError(f"{len(failed)} scans failed: {failed[0]}")
        settled = cases[workers:]  # the first of each worker contain its warm-up
        runs.append((settled[-1].ended - cases[workers - 1].ended) / len(settled) * len(scans))
    loop, run = statistics.median(loops), statistics.median(runs)
    steps = {name: statistics.median(case.timings[name] for case in cases) for name in ("read", "predict", "write")}
    print(
        f"{workers} workers, {len(scans)} of {folder.name}: loop {loop:.1f} s, run {run:.1f} s, ratio {loop / run:.2f}; "
        f"of a scan in a worker {', '.join(f'{name} {seconds:.2f} s' for name, seconds in steps.items())}"
    )
    return loop / run


def make_volumes(folder: Path, shape: tuple[int, ...], count: int) -> Path:
    """A folder of NIfTI scans."""
    folder.mkdir()
    for number in range(count):
        write_scan(folder / f"scan{number:04d}.nii.gz", shape, number)
    return folder


def throughput(home: Path, count: int, workers: int) -> bool:
    """Series of slices to NIfTI and SEG by a network of coarse voxels, which take time to read and write; then small volumes."""
    save_model(model_of(plan_of(PATCH, FEATURES, (8.0, 8.0, 8.0)), CLASSES, SMALL), home / "coarse")
    series = write_phantoms(home / "phantoms", "torso-ct", count).parent / "images"
    ratio = compare(home, series, workers, ("nifti", "dicom-seg"), "coarse")
    compare(home, make_volumes(home / "volumes", SMALL, count), workers)
    return ratio >= 1.5


def start(home: Path, count: int) -> bool:
    """A resumed run on finished scans: reading the ledger, comparing stamps of inputs and outputs, writing what is left."""
    folder, out = home / "many", home / "many_out"
    folder.mkdir()
    out.mkdir()
    scans = [Scan(f"s{number}", (folder / f"s{number}.nii.gz",)) for number in range(count)]
    for scan in scans:
        scan.images[0].write_bytes(b"x")
        (out / f"{scan.id}.nii.gz").write_bytes(b"y")
    from voxelry.cohort.content_hash import stamp_of

    with Ledger(out) as ledger:
        ledger.put(
            LedgerCase(
                scan.id, rank, (str(scan.images[0]),), "digest", stamp_of(scan.images), "done", input_hash="hash",
                outputs={"nifti": {"path": f"{scan.id}.nii.gz", "stamp": stamp_of([out / f"{scan.id}.nii.gz"]), "hash": "hash"}},
                details={"flags": ["x" * 100], "facts": {"volumes": {str(k): k for k in range(20)}}},
            )
            for rank, scan in enumerate(scans)
        )  # fmt: skip
    began = time.perf_counter()
    with Ledger(out) as ledger:
        queue = CaseQueue(ledger, out, {scan.id: scan for scan in scans}, "digest", lambda _: None)
        queue.begin(lambda _: None)
    seconds = time.perf_counter() - began
    print(f"start: {count} finished scans in {seconds:.2f} s, {len(queue.left)} left to do")
    return seconds < 3 and not queue.left


def memory(home: Path, count: int) -> bool:
    """The peak of a worker, scan after scan, with many classes; scans of several sizes, the largest among the first ten."""
    folder, out = home / "organs", home / "organs_out"
    folder.mkdir()
    for number in range(count):
        edge = 96 - 8 * (number % 5)
        write_scan(folder / f"scan{number:02d}.nii.gz", (edge, edge, 80), number)
    save_model(model_of(plan_of(PATCH, FEATURES, (1.0, 1.0, 1.0)), 105, SMALL), home / "many_classes")
    lead(home, folder, out, 1, home / "many_classes").wait()
    peaks = [case.peak_memory / 1e6 for case in sorted(states(out).values(), key=lambda case: case.ended)]
    grown = peaks[-1] - peaks[9]
    print(
        f"memory: {count} scans, 105 classes: peak {peaks[0]:.0f} MB after one, {peaks[9]:.0f} after ten, {peaks[-1]:.0f} at last"
    )
    return grown < 50


def main() -> int:
    """Run the sections asked for; 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = ("broken", "kills", "throughput", "overhead", "start", "memory")
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--every", type=int, default=20, help="each so many scans one is broken")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    choices = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    held = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        save_model(model_of(plan_of(PATCH, FEATURES, (1.0, 1.0, 1.0)), CLASSES, SMALL), home / "model")
        make_plugin(home / "plugin")
        if {"broken", "kills"} & set(choices.only):
            make_scans(home / "scans", choices.scans, choices.every)
            held.append(broken(home, choices.scans, choices.workers))
        if "kills" in choices.only:
            held.append(kills(home, choices.scans, choices.workers, choices.kills, choices.seed))
        if "throughput" in choices.only:
            held.append(throughput(home, min(choices.scans, 100), choices.workers))
        if "overhead" in choices.only:
            held.append(compare(home, make_volumes(home / "large volumes", LARGE, 8), 1) >= 1 / 1.05)
        if "start" in choices.only:
            held.append(start(home, choices.rows))
        if "memory" in choices.only:
            held.append(memory(home, 50))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
