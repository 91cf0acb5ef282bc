"""A run on ledger and workers: the bare loop's files, resumed by what changed, and whole after kills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import voxelry as vx
from helpers.full_disk import fill, small_disk
from helpers.plans import SIDED, tiny_model, tiny_plan
from voxelry.cohort.batch import segment_scans
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.cohort.scan_names import Scan
from voxelry.core.geometry import Geometry
from voxelry.errors import UsageError
from voxelry.networks.weights import save_model
from voxelry.phantom.nifti import write_nifti

GRID = Geometry.from_spacing((20, 18, 12), (1, 1, 2))
STATES = {**dict.fromkeys([f"scan{number}" for number in range(5)], "done"), "text": "failed"}


def write_scan(path: Path, seed: int) -> Path:
    return write_nifti(np.random.default_rng(seed).normal(100, 20, GRID.shape).astype(np.float32), GRID, path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that nobody trained."""
    saved = save_model(tiny_model(tiny_plan(3), SIDED), tmp_path_factory.mktemp("tiny") / "model")
    assert saved.path is not None
    return saved.path


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Six scans, of which one is no image."""
    for number in range(5):
        write_scan(tmp_path / "in" / f"scan{number}.nii.gz", number)
    (tmp_path / "in" / "text.nii.gz").write_text("not an image")
    return tmp_path / "in"


def masks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith((".tmp", ".old"))]


def rows(out: Path) -> dict[str, LedgerCase]:
    with Ledger(out, read_only=True) as ledger:
        return {case.id: case for case in ledger.cases()}


def measured(out: Path) -> list[tuple[object, ...]]:
    """The table of a run."""
    frame = pl.read_parquet(out / "measurements.parquet")
    assert pl.read_csv(out / "measurements.csv", schema=frame.schema).equals(frame)
    return frame.select("case", "label_value", "voxels", "volume_mm3", "intensity_mean").rows()


def counted(out: Path, scans: Path) -> list[tuple[object, ...]]:
    """What the masks of a run hold, by numpy."""
    expected: list[tuple[object, ...]] = []
    for mask in sorted(out.glob("*.nii.gz")):
        labels, image = vx.read_labels(mask).array, vx.read(scans / mask.name).array[0]
        for label in SIDED.labels:
            inside = image[labels == label.value].astype(np.float64)
            size = inside.size
            expected.append(
                (mask.name[:5], label.value, size, pytest.approx(2.0 * size), pytest.approx(inside.mean()) if size else None)
            )
    return expected


@pytest.fixture
def bare(model: Path, scans: Path, tmp_path: Path) -> dict[str, bytes]:
    """The masks that the bare loop writes."""
    found = [Scan(path.name.removesuffix(".nii.gz"), (path,)) for path in sorted(scans.glob("scan*"))]
    segment_scans(vx.load_model(model, device="cpu"), found, tmp_path / "bare", ["nifti"])
    return masks(tmp_path / "bare")


def test_workers_write_what_the_bare_loop_writes_and_the_ledger_knows_all(
    model: Path, scans: Path, bare: dict[str, bytes], tmp_path: Path
) -> None:
    told: list[tuple[str, int, int | None]] = []
    out = tmp_path / "out"
    outcomes = vx.predict(model, scans, out, device="cpu", workers=2, progress=lambda *call: told.append(call))
    assert masks(out) == bare
    assert [outcome.id for outcome in outcomes if outcome.error] == ["text"]
    assert outcomes[-1].error_class == "UnsupportedFormatError"
    assert [call for call in told if call[0] != "drawing"] == [("segmenting", number, 6) for number in range(1, 7)]
    assert told[-1] == ("drawing", 5, 5)
    cases = rows(out)
    assert {id: case.state for id, case in cases.items()} == STATES
    for case in (case for case in cases.values() if case.state == "done"):
        assert set(case.timings) == {"read", "decode", "predict", "write"}
        assert case.peak_memory > 0
        assert len(case.input_hash) == 64
        assert case.ended >= case.started > 0
        assert case.outputs["nifti"]["path"] == f"{case.id}.nii.gz"
    assert measured(out) == counted(out, scans)
    assert all("measurements" not in outcome.facts for outcome in outcomes)


def test_what_is_done_stays_and_what_changed_is_done_again(model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predictor = vx.load_model(model, device="cpu")
    seen: list[str] = []
    work = predictor.predict
    predictor.predict = lambda volume, *rest: (seen.append(Path(volume.source.name).name[:5]), work(volume, *rest))[1]  # type: ignore[method-assign]

    def again(**more: object) -> list[str]:
        seen.clear()
        outcomes = vx.predict(predictor, scans, out, **more)
        assert [bool(outcome.error) for outcome in outcomes] == [False] * 5 + [True]
        return seen.copy()

    everything = [f"scan{number}" for number in range(5)]
    assert again() == everything
    assert again() == []
    os.utime(scans / "scan1.nii.gz")  # another time, the same content
    assert again() == []
    assert again() == []
    write_scan(scans / "scan2.nii.gz", 77)
    assert again() == ["scan2"]
    (out / "scan3.nii.gz").unlink()
    assert again() == ["scan3"]
    assert measured(out) == counted(out, scans)
    (out / "measurements.csv").unlink()
    os.utime(out / "scan3.nii.gz")
    assert again() == []
    assert measured(out) == counted(out, scans)
    assert again(formats=["nifti", "seg-nrrd"]) == everything
    assert again(formats=["nifti", "seg-nrrd"]) == []


def start(model: Path, scans: Path, out: Path) -> "subprocess.Popen[bytes]":
    line = "import sys, voxelry; voxelry.predict(*sys.argv[1:], device='cpu', workers=1)"
    return subprocess.Popen([sys.executable, "-c", line, *map(str, (model, scans, out))], stderr=subprocess.DEVNULL)


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    while not condition() and process.poll() is None:
        time.sleep(0.02)


FATAL = """
import os, time
from voxelry.formats import Format
FORMAT = Format(
    name="fatal", title="Fatal", noun="a fatal file", kind="image", endings=(".fatal",), recognise="fatal:is_fatal",
    read_image="fatal:end",
)
def is_fatal(head): return head.startswith(b"FATAL")
def end(path, options):
    os.kill(os.getpid(), 11)
    time.sleep(60)  # another thread may be given the signal, a moment later
"""


@pytest.mark.slow
def test_a_scan_that_crashes_its_reader_costs_only_itself(
    model: Path, scans: Path, bare: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "plugin" / "fatal-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: fatal\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[voxelry.formats]\nfatal = fatal:FORMAT\n")
    (package.parent / "fatal.py").write_text(FATAL)
    (scans / "crash.fatal").write_text("FATAL")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    start(model, scans, tmp_path / "out").wait()
    assert masks(tmp_path / "out") == bare
    cases = rows(tmp_path / "out")
    assert {id: case.state for id, case in cases.items()} == {**STATES, "crash": "failed"}
    assert "crash.fatal: its process was ended by SIGSEGV" in cases["crash"].error
    assert cases["crash"].error_class == "WorkerDeath"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_kills_of_worker_and_leader_leave_no_trace(model: Path, scans: Path, bare: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(model, scans, out)
    wait_for(lambda: masks(out), process)
    for child in children(process.pid):
        os.kill(child, signal.SIGKILL)
    before = len(masks(out))
    wait_for(lambda: len(masks(out)) > before, process)
    process.kill()
    process.wait()
    (out / ".tmp-0123abcdscan0.nii.gz").write_text("half")
    vx.predict(model, scans, out, device="cpu", workers=0)
    assert masks(out) == bare
    assert hidden(out) == []
    assert {id: case.state for id, case in rows(out).items()} == STATES
    assert measured(out) == counted(out, scans)


def test_a_full_disk_stops_the_run_which_then_goes_on(model: Path, scans: Path, bare: dict[str, bytes], tmp_path: Path) -> None:
    predictor = vx.load_model(model, device="cpu")
    with small_disk(tmp_path / "out", 1024) as out:

        def fill_up(what: str, done: int, total: int | None) -> None:
            if what == "segmenting" and done == 2:
                fill(out)

        with pytest.raises(OSError, match="No space left"):
            vx.predict(predictor, scans, out, progress=fill_up)
        assert hidden(out) == []
        (out / "filler").unlink()
        assert 2 <= vx.status(out).counts["done"] < 5
        vx.predict(predictor, scans, out)
        assert masks(out) == bare
        assert {id: case.state for id, case in rows(out).items()} == STATES


def test_a_run_that_is_refused_changes_nothing(model: Path, scans: Path, tmp_path: Path) -> None:
    predictor = vx.load_model(model, device="cpu")
    out = tmp_path / "out"
    vx.predict(predictor, scans, out)
    (out / "scan1.nii.gz").write_text("corrected")
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    with pytest.raises(UsageError, match="was changed"):
        vx.predict(predictor, scans, out)
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before


def test_only_one_run_at_a_time_writes_into_a_folder(model: Path, scans: Path, tmp_path: Path) -> None:
    def nested(*_: object) -> None:
        with pytest.raises(UsageError, match="another run is writing"):
            vx.predict(model, scans, tmp_path / "out", device="cpu", workers=0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vx.predict(model, scans, tmp_path / "out", device="cpu", workers=0, progress=nested)


def test_scans_that_wait_in_the_ledger_but_are_not_asked_for_are_forgotten(model: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with Ledger(out) as ledger:
        ledger.put([LedgerCase("gone", 0, ("gone.nii.gz",), "request", "stamp"), LedgerCase("kept", 1, ("x",), "r", "s", "done")])
    vx.predict(model, scans / "scan0.nii.gz", out, device="cpu")
    assert {id: case.state for id, case in rows(out).items()} == {"scan0": "done", "kept": "done"}
