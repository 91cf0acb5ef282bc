"""Damages files of a folder in every way and reads them: the worker of `tests/formats/test_fuzz.py`, run as a program of its own.

`python mutants.py CORPUS SCRATCH FIRST LAST` reads mutants FIRST to LAST - 1 and prints one line of JSON for each that ends in
anything but an image, labels or a VoxelryError. A mutant is known by its number alone. A hang ends the process.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import random
import resource
import shutil
import sys
import warnings
from pathlib import Path

MEMORY = 1 << 30
"""Bytes of address space that reading one small file may take beyond what the imports took."""
SECONDS = 20
"""A read that takes longer hangs."""
OUT_OF_MEMORY = "fit into memory"

_EXTREMES = (
    b"\xff" * 8,
    b"\x00" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\xff" * 3 + b"\x7f" + b"\xff" * 3 + b"\x7f",
    b"\x80" + bytes(7),
    b"\x01" * 8,
)
_WORDS = (b"2147483648", b"-1", b"0", b"nan", b"1e308", b"99999999999999999999", b"", b"inf", b"\xff\xfe", b"../../x", b"%s%s%n")


def mutate(raw: bytes, rng: random.Random) -> bytes:
    """One to three of: cut, flipped bits, extreme values, changed words, bytes moved, repeated or lost."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 3))):
        reach = rng.choice((64, 400, 2000, len(data)))  # headers more often than pixels
        at = rng.randrange(max(1, min(reach, len(data))))
        how = rng.randrange(7)
        if how == 0:
            del data[rng.randrange(len(data) + 1) if rng.random() < 0.5 else at :]
        elif how == 1:
            for _ in range(rng.choice((1, 1, 4, 16))):
                if data:
                    data[rng.randrange(max(1, min(reach, len(data)))) % len(data)] ^= 1 << rng.randrange(8)
        elif how == 2:
            width = rng.choice((1, 2, 4, 8))
            data[at : at + width] = rng.choice(_EXTREMES)[:width]
        elif how == 3:
            _change_word(data, rng)
        elif how == 4:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 8, 64)))
        elif how == 5:
            del data[at : at + rng.choice((1, 2, 8, 64))]
        else:
            data[at:at] = data[at : at + rng.choice((4, 32, 200))]
    return bytes(data)


def _change_word(data: bytearray, rng: random.Random) -> None:
    """Replace a number written as text, if there is one nearby."""
    starts = [index for index in range(min(len(data), 4000)) if chr(data[index]).isdigit() and not chr(data[index - 1]).isdigit()]
    if starts:
        start = end = rng.choice(starts)
        while end < len(data) and chr(data[end]).isdigit():
            end += 1
        data[start:end] = rng.choice(_WORDS)


def attempt(corpus: Path, scratch: Path, number: int) -> str | None:
    """Read one mutant; what went wrong, or None."""
    from voxelry.errors import VoxelryError
    from voxelry.formats.reader import read, read_labels

    rng = random.Random(number)
    entries = sorted(corpus.iterdir())
    entry = entries[number % len(entries)]
    shutil.rmtree(scratch, ignore_errors=True)
    scratch = scratch / "case"  # a structure set's series is looked for in the folder above too
    shutil.copytree(entry, scratch)
    victim = rng.choice(sorted(path for path in scratch.rglob("*") if path.is_file()))
    victim.write_bytes(mutate(victim.read_bytes(), rng))
    main = next(path for path in sorted(scratch.iterdir()) if path.name.startswith("main"))
    for verb in (lambda: read(main).array, lambda: read_labels(main).layers, lambda: read_labels(main, threshold=0.5).layers):
        try:
            verb()
        except VoxelryError as error:
            if OUT_OF_MEMORY in str(error):
                return f"{entry.name}: {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            return f"{entry.name}: {type(error).__name__}: {error}"
    return None


def main() -> None:
    """Read a range of mutants under limits."""
    corpus, scratch, first, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    for entry in sorted(corpus.iterdir()):  # load every codec before memory is bounded
        attempt_whole(entry)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in range(first, last):
        scratch.with_suffix(".now").write_text(str(number), encoding="ascii")
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        trouble = attempt(corpus, scratch, number)
        faulthandler.cancel_dump_traceback_later()
        if trouble:
            sys.stdout.write(json.dumps({"mutant": number, "trouble": trouble}) + "\n")
            sys.stdout.flush()


def attempt_whole(entry: Path) -> None:
    """Read the undamaged file, which must work as an image or as labels."""
    from voxelry.errors import VoxelryError
    from voxelry.formats.reader import read, read_labels

    main_file = next(path for path in sorted(entry.iterdir()) if path.name.startswith("main"))
    try:
        _ = read(main_file).array
    except VoxelryError:
        _ = read_labels(main_file).layers


if __name__ == "__main__":
    main()
