"""Optional dependencies: their import, with an error that names the extra that installs them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from voxelry.errors import MissingExtraError

EXTRAS = {
    "onnx": "accelerate", "onnxruntime": "accelerate", "onnxscript": "accelerate", "openvino": "accelerate",
    "nncf": "int8",
    "fire": "bundle", "ignite": "bundle",
    "dicomweb_client": "dicom", "pynetdicom": "dicom", "requests": "dicom",
    "einops": "swin",
    "fsspec": "remote", "obstore": "remote", "aiohttp": "remote",
    "ray": "cluster", "submitit": "cluster",
    "huggingface_hub": "hub",
    "fastapi": "serve", "uvicorn": "serve", "prometheus_client": "serve",
    "matplotlib": "plot",
    "ipyniivue": "notebook",
    "mirp": "radiomics",
    "tensorboard": "track", "mlflow": "track",
}  # fmt: skip
"""Module -> the extra of this package that installs it."""


def is_installed(*modules: str) -> bool:
    """Whether all of these modules are installed; none is imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def extra(module: str, purpose: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: its name, one of `EXTRAS`.
        purpose: the feature that needs it, for the message.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs '{module}', which is not installed", remedy=f"Install it: pip install 'voxelry[{EXTRAS[module]}]'."
        ) from error
