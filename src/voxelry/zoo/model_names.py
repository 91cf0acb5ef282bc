"""Names of models in place of folders: starter models, which come with the package, and models in a local cache.

A model folder of that name in the working directory is taken before either, with a warning; anything else that has the name there
is passed over, with a warning too.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from voxelry.errors import ModelError, nearest
from voxelry.networks.weights import is_model_folder

log = logging.getLogger(__name__)

STARTERS = Path(__file__).parent / "starters"
"""A folder for each starter model, called by its name."""

CACHE_VARIABLE = "VOXELRY_MODELS"
"""Environment variable with the folder of fetched models."""


def model_cache() -> Path:
    """The folder of fetched models; it need not exist.

    `CACHE_VARIABLE` names it; without that it lies in the user's folder for caches.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "voxelry" / "models"


def named_models() -> dict[str, Path]:
    """Name -> folder of every model that can be called by its name; a starter model's name is nobody else's.

    Example:
        >>> from voxelry.zoo import named_models
        >>> all(folder.name == name for name, folder in named_models().items())
        True
    """
    return {folder.name: folder for place in (model_cache(), STARTERS) for folder in _model_folders(place)}


def _model_folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(folder for folder in place.iterdir() if not folder.name.startswith(".") and is_model_folder(folder))


def find_model(model: str | os.PathLike[str]) -> Path:
    """The folder of a model.

    Args:
        model: a folder, or the name of a starter model or of one in the cache.

    Raises:
        ModelError: a name, without a path, of nothing.

    Example:
        >>> from voxelry.zoo import find_model
        >>> find_model("runs/liver/model").as_posix()
        'runs/liver/model'
        >>> import voxelry
        >>> try:
        ...     find_model("hipocampus")
        ... except voxelry.VoxelryError as error:
        ...     print(error.problem)
        hipocampus: no model folder, and no model of that name
    """
    path = Path(model)
    if os.fspath(model) != path.name or path.name.startswith(".") or is_model_folder(path):
        named = named_models().get(path.name) if os.fspath(model) == path.name else None
        if named is not None and named.resolve() != path.resolve():
            log.warning("the model folder %s here is taken; the model of that name is %s", path, named)
        return path
    known = named_models()
    if path.name in known:
        if path.exists():
            log.warning("%s here is no model folder, so the model of that name is taken: %s", path, known[path.name])
        return known[path.name]
    if path.exists():
        return path  # of a run, say: loading it gives the nearest remedy
    hint = nearest(path.name, known) if known else ""
    raise ModelError(
        f"{path}: no model folder, and no model of that name", remedy=f"{hint} 'voxelry models' lists the names.".strip()
    )
