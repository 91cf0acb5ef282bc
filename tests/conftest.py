"""Fixtures every test can use."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# a busy machine is no failure; CI draws the same examples every time, so that it fails for what a change did
settings.register_profile("voxelry", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "voxelry")


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
def torso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four coarse torsos as DICOM, their manifest and a recipe; not to be changed."""
    from tiny import phantoms, recipe

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
