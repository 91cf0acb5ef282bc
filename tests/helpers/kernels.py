"""Compiles the loops of a fresh checkout in several processes, so that none of the tests' workers compiles all of them."""

from __future__ import annotations

import importlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "voxelry"


def compile_kernels(processes: int) -> None:
    """Import every module of compiled loops, the longest first, each in one process; the machine code stays on disk."""
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    users = [path for path, text in sources.items() if "from voxelry.base.compiled import" in text]
    names = [
        ".".join(("voxelry", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in sorted(users, key=lambda path: len(sources[path]), reverse=True)
    ]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(_load, names))


def _load(name: str) -> None:
    importlib.import_module(name)
