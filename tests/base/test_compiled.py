"""Compiled loops: machine code is used again, and made anew after a change of anything that it holds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import voxelry
from voxelry.base.compiled import compiled, kernel_digest

SOURCE = Path(voxelry.__file__).parent

HELPER = """
from voxelry.base.compiled import inlined, jitable
from voxelry.core.factor import FACTOR

@inlined
def scaled(x):
    return x * 3.0

@jitable
def shifted(x):
    return x + 1.0
"""
KERNEL = """
from voxelry.base.compiled import compiled
from voxelry.core.helper import FACTOR, scaled, shifted

@compiled("float64(float64)")
def eager(x):
    return shifted(scaled(x)) * FACTOR

@compiled()
def lazy(x):
    return shifted(scaled(x)) * FACTOR
"""
RUN = """
from voxelry.core.kernel import eager, lazy
print(eager(1.0), lazy(1.0), *(len(loop.stats.cache_hits) for loop in (eager, lazy)))
"""


@pytest.fixture
def copied(tmp_path):
    """A copy of what compiles, with a kernel and its helper; gives the results of a process, and its hits on disk."""
    package = tmp_path / "voxelry"
    for name in ("base/__init__.py", "base/compiled.py", "core/__init__.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / name, package / name)
    for name in ("__init__.py", "base/__init__.py", "core/__init__.py"):
        (package / name).write_text("")
    (package / "core" / "kernel.py").write_text(KERNEL)
    helper, constant = package / "core" / "helper.py", package / "core" / "constant.py"
    helper.write_text(HELPER)
    constant.write_text("FACTOR = 2.0\n")
    (package / "core" / "factor.py").write_text("from voxelry.core.constant import FACTOR\n")

    def run(old="", new=""):
        for file in (helper, constant):
            file.write_text(file.read_text().replace(old, new) if old else file.read_text())
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("NUMBA_CACHE_DIR", None)
        answer = subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        return [float(word) for word in answer.stdout.split()]

    return run


@pytest.mark.slow
def test_a_change_of_a_helper_counts_at_once(copied):
    assert copied() == [8, 8, 0, 0]
    assert copied() == [8, 8, 1, 1]  # nothing changed: taken from disk
    assert copied("x * 3.0", "x * 5.0") == [12, 12, 0, 0]  # inlined
    assert copied("x + 1.0", "x + 2.0") == [14, 14, 0, 0]  # called
    assert copied("FACTOR = 2.0", "FACTOR = 4.0") == [28, 28, 0, 0]  # frozen, three modules away
    assert copied() == [28, 28, 1, 1]
    assert copied("FACTOR = 4.0", "FACTOR = 2.0") == [14, 14, 1, 1]  # what was compiled before is there still


def test_the_digest_is_of_every_kernel():
    assert len(kernel_digest()) == 16
    users = [file for file in SOURCE.rglob("*.py") if "import numba" in file.read_text() and file.name != "compiled.py"]
    assert users
    assert all("from voxelry.base.compiled import" in file.read_text() for file in users)


def test_given_types_alone_are_compiled():
    @compiled("float64(float64)")
    def doubled(x):
        return 2 * x

    assert doubled(np.float32(3)) == 6
    with pytest.raises(TypeError, match="No matching definition"):
        doubled("text")
