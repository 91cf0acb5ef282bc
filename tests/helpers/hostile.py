"""Reads hostile files one after the other under limits of memory and time: the worker of `tests/formats/test_hostile.py`.

`python hostile.py MODULE FUNCTION SCRATCH FIRST` prints how many inputs there are, and one line of JSON for each that ends in
anything but an image, labels or a VoxelryError. A hang ends the process.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path

MEMORY = 1536 << 20
"""Bytes of address space that reading one hostile file may take beyond what the imports took."""
SECONDS = 60
"""All ways of reading one file; a busy machine is slow."""


def attempt(name, files, scratch):
    """Read one input in every way; what went wrong."""
    from voxelry.errors import VoxelryError
    from voxelry.formats.inspection import inspect
    from voxelry.formats.reader import read, read_all, read_labels

    shutil.rmtree(scratch, ignore_errors=True)
    folder = scratch / "case"  # the series of a structure set is looked for in the folder above too
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    first = folder / next(iter(files))
    path = first.parent if first.name == "x" else first
    for verb, call in {
        "read": lambda: read(path).array,
        "labels": lambda: read_labels(path),
        "threshold": lambda: read_labels(path, threshold=0.5),
        "all": lambda: read_all(path),
        "inspect": lambda: inspect(path),
    }.items():
        try:
            call()
        except VoxelryError as error:
            if "fit into memory" in str(error) or len(str(error)) > 2000:
                yield f"{name}, {verb}: {error}"[:500]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            yield f"{name}, {verb}: {type(error).__name__}: {error}"[:500]


def main(module, function, scratch, start):
    """Read the inputs of a function from a number on."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    inputs = list(getattr(importlib.import_module(module), function)())
    for library in ("imagecodecs", "SimpleITK", "PIL.Image", "highdicom", "tifffile", "voxelry.formats.reader"):
        importlib.import_module(library)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.stdout.write(json.dumps({"inputs": len(inputs)}) + "\n")
    for number, (name, files) in enumerate(inputs[start:], start):
        scratch.with_suffix(".now").write_text(f"{number} {name}", encoding="utf-8")
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        begin = time.monotonic()
        for trouble in attempt(name, files, scratch):
            sys.stdout.write(json.dumps({"trouble": trouble, "seconds": time.monotonic() - begin}) + "\n")
        sys.stdout.flush()
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
