"""The public surface: the words and the verbs, frozen here."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import voxelry

WORDS = [
    "Case", "Code", "Config", "Fingerprint", "Geometry", "Label", "LabelMap", "LabelTable", "Manifest", "Model",
    "NotebookProgress", "Plan", "Prediction", "Predictor", "Scores", "Source", "Volume", "VoxelryError", "Window",
]  # fmt: skip
SIGNATURES = {
    "check": "manifest, *, root, deep, report, progress",
    "compare": "a, b, *, metrics, test, seed, report",
    "convert": "mask, out, *, reference, format, labels, series, repair, threshold, options",
    "demo": "out, *, manifest, root, seconds, progress, on_step",
    "estimate": "config, *, changes, epochs, time_budget, folds, fold, plan, initial, root, progress",
    "evaluate": "reference, prediction, *, metrics, tolerance, root, regions, progress",
    "inspect": "path, *, names, progress",
    "load_model": "path, *, device, network, choices",
    "lookup": "name",
    "measure_labels": "labels, volume",
    "plan": "manifest, *, root, settings, device, out, progress",
    "predict": (
        "model, inputs, out, *, task, formats, device, progress, series, repair, workers, time_limit, cluster, on_batch, "
        "on_plan, choices"
    ),
    "qc": "folder, out, *, progress",
    "read": "path, *, series, repair, polarity, pixel_size, suv, dpi, transform",
    "read_all": "path, *, repair, polarity, pixel_size, suv",
    "read_labels": "path, table, *, reference, threshold, instances",
    "train": "config, out, *, changes, epochs, time_budget, folds, fold, plan, initial, resume, root, progress, on_step, report",
    "version": "",
    "write": "labels, path, *, format, source",
}
"""Verb -> its parameters, which stay as they are. A new verb needs no line here until it is published."""
ROOMS = ["plot"]
"""Rooms whose functions are called by the room's name, as `vx.plot.overlay`."""
VERBS = sorted(set(voxelry.__all__) - {*WORDS, *ROOMS, "__version__"})


def test_the_names_are_frozen_and_sorted():
    assert set(voxelry.__all__) >= {*WORDS, *SIGNATURES, "__version__"}
    assert voxelry.__all__ == sorted(voxelry.__all__)
    assert dir(voxelry) == voxelry.__all__


@pytest.mark.parametrize("name", VERBS + WORDS)
def test_every_name_resolves_and_is_documented(name):
    value = getattr(voxelry, name)
    assert inspect.isfunction(value) == (name in VERBS)
    assert inspect.isclass(value) == (name in WORDS)
    text = inspect.getdoc(value)
    assert text
    assert value.__module__.startswith("voxelry")


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_frozen(name):
    shown, keyword = [], False
    for parameter in inspect.signature(getattr(voxelry, name)).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            shown.append("*")
            keyword = True
        shown.append(parameter.name)
    assert ", ".join(shown) == SIGNATURES[name]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="reed"):
        voxelry.reed  # noqa: B018 - the look-up is the test


@pytest.mark.slow
def test_verbs_stay_functions_when_the_rooms_of_their_names_are_loaded():
    code = """
import importlib, pkgutil, types
import voxelry
for module in pkgutil.walk_packages(voxelry.__path__, "voxelry."):
    importlib.import_module(module.name)
import voxelry.formats.grids.nifti_read
from voxelry.formats.grids.nifti_read import open_nifti
assert isinstance(voxelry.read, types.FunctionType), voxelry.read
for name in set(voxelry.__all__) - {"plot"}:  # a room of its own: vx.plot.overlay
    assert not isinstance(getattr(voxelry, name), types.ModuleType), name
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_room_can_be_imported():
    rooms = {module.name for module in pkgutil.iter_modules(voxelry.__path__) if module.ispkg}
    assert rooms >= {"formats", "training", "inference", "metrics", "phantom", "reports", "cohort"}
    for room in rooms:
        assert importlib.import_module(f"voxelry.{room}").__doc__


def test_the_package_loads_nothing_heavy():
    code = "import sys, voxelry; print([m for m in ('numpy', 'torch', 'pydantic', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_reading_and_measuring_do_not_wait_for_torch():
    verbs = "v.read, v.evaluate, v.check, v.write"
    code = f"import sys, voxelry as v; {verbs}; print([m for m in ('torch', 'monai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_one():
    assert voxelry.version() == voxelry.__version__
