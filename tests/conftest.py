"""Fixtures every test can use."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from helpers.orthanc import Archive

# a busy machine is no failure; CI draws the same examples every time, so that it fails for what a change did
settings.register_profile("voxelry", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "voxelry")

# workers of pytest-xdist share the processors; torch reads this when it is imported, and so do the programs that tests start
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))


def pytest_configure(config: pytest.Config) -> None:
    """Before pytest-xdist starts its workers: compile what each of them would otherwise compile anew in a fresh checkout."""
    workers = len(getattr(config.option, "tx", None) or ())
    if workers and not hasattr(config, "workerinput") and not config.option.collectonly:
        from helpers.kernels import compile_kernels

        compile_kernels(workers)


def _absent(reason: str) -> None:
    """Skip; or fail, where VOXELRY_REQUIRE_REALDATA=1 says that everything must be at hand."""
    if os.environ.get("VOXELRY_REQUIRE_REALDATA") == "1":
        pytest.fail(f"{reason} (and VOXELRY_REQUIRE_REALDATA=1)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real scans; tests that use it skip, with the reason, where it is not at hand."""
    root = os.environ.get("VOXELRY_DATA")
    if not root or not Path(root).is_dir():
        _absent("real scans are not at hand: VOXELRY_DATA names no folder")
    assert root
    return Path(root)


@pytest.fixture(scope="session")
def dciodvfy() -> Callable[[Path], list[str]]:
    """Checks a DICOM file with dicom3tools' `dciodvfy` and returns its error lines, none for a valid file."""
    program = shutil.which("dciodvfy")
    if program is None:
        _absent("the DICOM validator dciodvfy (dicom3tools) is not installed")

    def check(path: Path) -> list[str]:
        done = subprocess.run([str(program), str(path)], capture_output=True, text=True, timeout=60, check=False)
        return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]

    return check


@pytest.fixture(scope="session")
def dcentvfy() -> Callable[..., list[str]]:
    """Checks with dicom3tools' `dcentvfy` that files agree on patient and study, and returns its error lines."""
    program = shutil.which("dcentvfy")
    if program is None:
        _absent("the DICOM validator dcentvfy (dicom3tools) is not installed")

    def check(*files: Path | str) -> list[str]:
        done = subprocess.run([str(program), *map(str, files)], capture_output=True, text=True, timeout=60, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        return [line for line in lines if "Error" in line] or ([] if done.returncode == 0 else lines)

    return check


@pytest.fixture(scope="session")
def segimage2itkimage() -> Callable[[Path, Path], Path]:
    """Reads a DICOM SEG with dcmqi into a new folder: ``m-1.nii.gz``, ``m-2.nii.gz``... and ``m-meta.json``."""
    program = _dcmqi("segimage2itkimage")

    def read(seg: Path, folder: Path) -> Path:
        folder.mkdir()
        line = [program, "--inputDICOM", str(seg), "--outputDirectory", str(folder), "-t", "nii", "-p", "m"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return folder

    return read


@pytest.fixture(scope="session")
def tid1500reader() -> Callable[[Path, Path], Path]:
    """Reads a DICOM SR with dcmqi into a JSON file."""
    program = _dcmqi("tid1500reader")

    def read(report: Path, json_file: Path) -> Path:
        line = [program, "--inputDICOM", str(report), "--outputMetadata", str(json_file)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json_file

    return read


def _dcmqi(name: str) -> str:
    """The path of a program of dcmqi, on the search path or beside the interpreter."""
    program = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if program is None:
        _absent(f"dcmqi's {name} is not installed")
    return str(program)


@pytest.fixture(scope="session")
def plastimatch() -> Callable[..., None]:
    """Runs plastimatch, an independent reader of RT structure sets, with the arguments given."""
    program = shutil.which("plastimatch", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        _absent("plastimatch, which reads RT structure sets, is not installed")

    def run(*arguments: str | Path) -> None:
        subprocess.run([str(program), *map(str, arguments)], capture_output=True, timeout=60, check=True)

    return run


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Archive"]:
    """A running Orthanc, alone in a network namespace."""
    from helpers.orthanc import Archive, lacking

    reason = lacking()
    if reason:
        _absent(reason)
    running = Archive(tmp_path_factory.mktemp("archive"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def chromium() -> None:
    """Tests that use it skip where there is no browser."""
    from helpers.chromium import lacking

    reason = lacking()
    if reason:
        _absent(reason)


@pytest.fixture(scope="session")
def dcm2niix() -> Path:
    """The converter dcm2niix, as its Python package brings it."""
    try:
        from dcm2niix import bin as program
    except ImportError:
        _absent("the converter dcm2niix is not installed")
    return Path(program)


@pytest.fixture(scope="session")
def torso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four coarse torsos as DICOM, their manifest and a recipe; not to be changed."""
    from helpers.tiny import phantoms, recipe

    folder = phantoms(tmp_path_factory.mktemp("torso")).parent
    recipe(folder)
    return folder


@pytest.fixture(scope="session")
def torso_model(torso: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model trained on `torso` for a second: it works, and is no good."""
    import voxelry

    path = voxelry.train(torso / "recipe.yaml", tmp_path_factory.mktemp("run")).model.path
    assert path is not None
    return path
