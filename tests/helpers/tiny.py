"""Data sets of a few coarse phantoms, and recipes that train on them in about a second."""

from dataclasses import replace
from pathlib import Path

from voxelry.base.files import write_yaml
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

SPACINGS = {
    "torso-ct": (16.0, 16.0, 20.0),
    "spine-mri": (6.0, 6.0, 8.0),
    "chest-xray": (12.0, 12.0, 12.0),
    "chest-xray-heart": (12.0, 12.0, 12.0),
    "dental-panoramic": (3.0, 3.0, 1.0),
    "spine-discs": (6.0, 6.0, 8.0),
}
STEPS = 10


def phantoms(folder, kind="torso-ct", **options) -> Path:
    """The manifest of four cases: two to train on, one each for val and test."""
    coarse = replace(ACQUISITIONS[kind], spacing=SPACINGS[kind])
    return write_phantoms(folder, kind, 4, val=1, test=1, acquisition=coarse, **options)


def recipe(folder, manifest="manifest.yaml", **changes) -> Path:
    """A recipe in `folder`."""
    path = Path(folder) / "recipe.yaml"
    write_yaml(path, {"manifest": str(manifest), "steps": STEPS, "validations": 1, "device": "cpu"} | changes)
    return path
