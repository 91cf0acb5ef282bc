"""voxelry: segments medical scans. Geometry is never lost, memory is bounded, nothing is lost.

The public surface is the words and the verbs listed in `__all__`, each loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from voxelry._version import __version__, version

if TYPE_CHECKING:
    from voxelry.api import (
        check,
        compare,
        convert,
        demo,
        estimate,
        evaluate,
        inspect,
        load_model,
        plan,
        predict,
        read,
        read_all,
        read_labels,
        train,
        write,
    )
    from voxelry.catalogue import lookup
    from voxelry.config import Config
    from voxelry.errors import VoxelryError
    from voxelry.export.measurements import measure_labels
    from voxelry.geometry import Geometry
    from voxelry.labels import Code, Label, LabelTable
    from voxelry.manifest.cases import Case
    from voxelry.manifest.manifest import Manifest
    from voxelry.measure.scores import Scores
    from voxelry.model import Model
    from voxelry.plan import Fingerprint, Plan
    from voxelry.predict.predictor import Prediction, Predictor
    from voxelry.volume import LabelMap, Source, Volume, Window

_HOMES = {
    "voxelry.api": (
        "check", "compare", "convert", "demo", "estimate", "evaluate", "inspect", "load_model", "plan", "predict", "read",
        "read_all", "read_labels", "train", "write",
    ),
    "voxelry.catalogue": ("lookup",),
    "voxelry.config": ("Config",),
    "voxelry.errors": ("VoxelryError",),
    "voxelry.export.measurements": ("measure_labels",),
    "voxelry.geometry": ("Geometry",),
    "voxelry.labels": ("Code", "Label", "LabelTable"),
    "voxelry.manifest.cases": ("Case",),
    "voxelry.manifest.manifest": ("Manifest",),
    "voxelry.measure.scores": ("Scores",),
    "voxelry.model": ("Model",),
    "voxelry.plan": ("Fingerprint", "Plan"),
    "voxelry.predict.predictor": ("Prediction", "Predictor"),
    "voxelry.volume": ("LabelMap", "Source", "Volume", "Window"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Case",
    "Code",
    "Config",
    "Fingerprint",
    "Geometry",
    "Label",
    "LabelMap",
    "LabelTable",
    "Manifest",
    "Model",
    "Plan",
    "Prediction",
    "Predictor",
    "Scores",
    "Source",
    "Volume",
    "VoxelryError",
    "Window",
    "__version__",
    "check",
    "compare",
    "convert",
    "demo",
    "estimate",
    "evaluate",
    "inspect",
    "load_model",
    "lookup",
    "measure_labels",
    "plan",
    "predict",
    "read",
    "read_all",
    "read_labels",
    "train",
    "version",
    "write",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'voxelry' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__


class _Package(ModuleType):
    """The package as a module on which a room never hides the verb of its name.

    Importing ``voxelry.read.nifti`` makes the import system set the attribute ``read`` of the package to the room; the verb
    `voxelry.read` must stay. Rooms are reached by ``from voxelry.read.nifti import ...``, which does not use the attribute.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
