"""Common parts of the benchmarks: the peers' environment, a process for each contestant, the printed table.

A contestant is a function that runs in a process of its own, on the same inputs as the others and in turn with them. Extra
memory is the peak of resident memory during a run less that before it: imports, compiled code and inputs are loaded by then.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "build" / "peers"
SLOW_SECONDS = 20.0
"""A peer slower than this runs once."""

_PROOF = "import surface_distance, panoptica, medpy, ruamel.yaml, nnunetv2.inference.predict_from_raw_data"


def peers_python(folder: Path) -> Path:
    """The interpreter of the peers' environment, which is built if it is not there; it sees this one's packages too."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    if subprocess.run([python, "-c", _PROOF], capture_output=True).returncode:
        packages = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        own = [path for path in sys.path if path.endswith("site-packages")]
        (Path(packages) / "voxelry_environment.pth").write_text("\n".join(own) + "\n")
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", HERE / "requirements.txt"]
        subprocess.run(install, check=True)
    return python


class Contestant:
    """One function in a process of its own, run when told to; the script answers `--worker NAME INPUTS` by `serve`."""

    def __init__(self, python: Path, script: str, name: str, inputs: Path) -> None:
        paths = [str(HERE), str(HERE.parent / "src")]
        command = [str(python), "-W", "ignore", script, "--worker", name, str(inputs)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        self.name, self._script = name, script
        self.seconds: list[float] = []
        self.extra_mb = 0.0
        self.answer: dict[str, float] = {}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self._reply()

    def run(self) -> None:
        """One timed run."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        reply = self._reply()
        self.seconds.append(reply["seconds"])
        self.extra_mb = max(self.extra_mb, reply["extra_mb"])
        self.answer = reply["answer"]

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    def _reply(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise SystemExit(f"{self.name} died; run it alone: python {self._script} --worker {self.name} INPUTS")


def serve(run: Callable[[], dict[str, float]]) -> None:
    """A contestant's process, loaded and warm: one timed run for each line of standard input."""
    print("@" + json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        before = reset_peak()
        start = time.perf_counter()
        answer = run()
        seconds = time.perf_counter() - start
        print("@" + json.dumps({"seconds": seconds, "extra_mb": memory_mb("VmHWM") - before, "answer": answer}), flush=True)


def reset_peak() -> float:
    """Forget the peak of resident memory so far (Linux); what is resident now, MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mb("VmRSS")


def memory_mb(field: str) -> float:
    """A line of this process's status, ``VmRSS`` or ``VmHWM``, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


@dataclass(frozen=True)
class Task:
    """One comparison: `ours` against each of `peers` (name -> how many times faster we claim to be)."""

    title: str
    inputs: str
    ours: str
    peers: dict[str, float]
    tolerance: float
    memory_mb: float | None = None


Apart = Callable[[Task, dict[str, float], dict[str, float]], float]
"""How far two answers lie apart, to be compared with the task's tolerance."""


def compare(task: Task, script: str, python: Path, inputs: Path, rounds: int, apart: Apart) -> list[dict[str, Any]]:
    """Run one task's contestants in turn; one row a peer."""
    ours = Contestant(python, script, task.ours, inputs)
    peers = [Contestant(python, script, name, inputs) for name in task.peers]
    for number in range(rounds):
        ours.run()
        for peer in peers:
            if number == 0 or peer.seconds[0] < SLOW_SECONDS:
                peer.run()
    rows = []
    for peer in peers:
        gap = apart(task, ours.answer, peer.answer)
        ratio = statistics.median(peer.seconds) / statistics.median(ours.seconds)
        kept = task.memory_mb is None or ours.extra_mb <= task.memory_mb
        rows.append(
            {
                "task": task.title,
                "peer": peer.name.split("_")[1],
                "ours_s": round(statistics.median(ours.seconds), 3),
                "peer_s": round(statistics.median(peer.seconds), 3),
                "ratio": round(ratio, 1),
                "claimed": task.peers[peer.name],
                "ours_extra_mb": round(ours.extra_mb, 1),
                "peer_extra_mb": round(peer.extra_mb, 1),
                "apart": gap,
                "holds": bool(ratio >= task.peers[peer.name] and kept and gap <= task.tolerance),
            }
        )
    for contestant in (ours, *peers):
        contestant.close()
    return rows


def parser_of(about: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that benchmarks share.

    Args:
        about: the script's docstring.
        rounds: how often each contestant runs, if not told otherwise.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small inputs, one round: a check of the script, not of the claims")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' virtual environment")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "INPUTS"), help=argparse.SUPPRESS)
    return parser


def run_tasks(
    about: str | None,
    script: str,
    tasks: Sequence[Task],
    make_inputs: Callable[[Path, bool], None],
    work: Callable[[str, Path], None],
    apart: Apart,
    libraries: tuple[str, ...],
) -> int:
    """A benchmark as a script: parse its command line, run its tasks, print the table.

    Args:
        about: its docstring.
        script: its file.
        tasks: what it claims.
        make_inputs: writes the inputs of every task into a folder; small ones, if told so.
        work: a contestant's process, by its name and inputs.
        apart: how far answers lie apart.
        libraries: whose versions are printed.

    Returns:
        Its exit code, 1 where a claim does not hold.
    """
    parser = parser_of(about, rounds=5)
    parser.add_argument("--only", default="", help="tasks whose title or contestant's name holds this")
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], Path(options.worker[1]))
        return 0
    python, rows = peers_python(options.peers), []
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder), options.quick)
        for task in tasks:
            if options.only in f"{task.title} {task.ours}":
                rounds = 1 if options.quick else options.rounds
                rows += compare(task, script, python, Path(folder) / task.inputs, rounds, apart)
    print_rows(rows, libraries)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if options.quick or all(row["holds"] for row in rows) else 1


def print_rows(rows: list[dict[str, Any]], libraries: tuple[str, ...]) -> None:
    """The machine and the versions, then a Markdown table."""
    versions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"] in libraries}
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}\n")
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
