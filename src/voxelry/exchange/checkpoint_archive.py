"""Archives of `torch.save`, read without running anything in them.

PyTorch's restricted unpickler (`weights_only`) calls nothing but what builds tensors and plain containers. Before it starts, the
names that the pickle asks for are read from its instructions, so that a refusal names them. Tensors are mapped, not read: of a
checkpoint with the state of an optimiser only the weights come into memory.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from voxelry.base.listing import shown
from voxelry.errors import ModelError

FAILURES = (RuntimeError, OSError, pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, ValueError)
"""What PyTorch raises for files that are damaged, or none of its own."""


_DISTRUST = "Do not trust this file. A checkpoint holds tensors, text and numbers alone."


def read_archive(path: Path, allowed: Sequence[Any] = ()) -> Any:
    """The content of an archive.

    Args:
        path: as `torch.save` wrote it.
        allowed: names that it may ask for beside those of tensors, as `torch.serialization.safe_globals` takes them.

    Raises:
        ModelError: it asks for code; naming it.
        ValueError: it is no archive, or its entries are compressed, which may grow without end.
        Exception: one of `FAILURES`, where it is damaged.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("not the archive that torch.save writes")
    with zipfile.ZipFile(path) as archive:
        packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"its entry {packed[0]} is compressed, as torch.save writes none")
    with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols other than PyTorch's own
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if asked:
            names = shown(sorted(asked))
            raise ModelError(f"{path}: asks for {names}, which is code; nothing of it was run", remedy=_DISTRUST)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def read_bare_pickle(path: Path) -> Any:
    """The content of a checkpoint as PyTorch wrote them before version 1.6.

    Raises:
        ModelError: it asks for code, or is no pickle.
        Exception: one of `FAILURES`, where it is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: asks for more than numbers, or is no checkpoint; nothing of it was run", remedy=_DISTRUST
        ) from error
