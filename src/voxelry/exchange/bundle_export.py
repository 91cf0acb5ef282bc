"""MONAI Bundle export: a bundle that `python -m monai.bundle run` executes offline to our labels, without voxelry.

What MONAI's transforms do otherwise (they align the centres of corner voxels, cut no content, and restore probabilities) comes
with the bundle, in ``scripts/``: the module `bundle_pipeline` and the operators of `preparation.interpolation`, as they are here.
The sliding window is MONAI's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from voxelry.base.extras import extra, is_installed
from voxelry.base.files import read_text, write_json, write_text
from voxelry.base.progress import ProgressCallback
from voxelry.base.version import version
from voxelry.core.model import Model
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError
from voxelry.exchange import bundle_pipeline
from voxelry.exchange.agreement import Agreement, TestScan, agreement_of, refuse_disagreement
from voxelry.exchange.bundle_description import bundle_metadata, bundle_readme
from voxelry.exchange.bundle_network import WEIGHTS, BundleNetwork, write_network
from voxelry.formats.grids.nifti_write import write_nifti_image
from voxelry.formats.reader import read_labels
from voxelry.inference.plan_ensemble import SHARED_FIELDS
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.build import output_classes
from voxelry.networks.classes import label_classes
from voxelry.networks.mirrored_passes import mirrored_axes, mirrored_channels
from voxelry.preparation import interpolation

OWN_FILE = "configs/voxelry.json"
"""The plan and card of each member, by which `voxelry import` gets the very model back."""

HELD_FIELDS = frozenset({
    "dimensions", "channels", "configuration", "slice_axis", "orientation", "spacing", "long_side", "image_order", "coarse_axis",
    "normalisation", "patch_size", "batch_size", "network", "regions", "instances", "sequences", "overlap", "flips", "reasons",
})  # fmt: skip
"""Fields of a plan that a bundle holds, or that have a check of their own; any other must be at its default."""

SCHEMES = ("global", "image", "mask")
SCRIPTS = "scripts"
LARGEST, COLOURS = 255, 3
SECONDS = 3600
"""After which a bundle's run is given up."""

_LOGGING = """[loggers]
keys=root

[handlers]
keys=consoleHandler

[formatters]
keys=fullFormatter

[logger_root]
level=INFO
handlers=consoleHandler

[handler_consoleHandler]
class=StreamHandler
level=INFO
formatter=fullFormatter
args=(sys.stdout,)

[formatter_fullFormatter]
format=%(asctime)s - %(name)s - %(levelname)s - %(message)s
"""

_WITHOUT_VOXELRY = """import runpy, sys
sys.modules["voxelry"] = None
sys.argv = ["monai.bundle", *sys.argv[1:]]
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""
"""Runs `python -m monai.bundle` where voxelry cannot be imported, so that the self-test shows that the bundle does without."""


def export_bundle(
    models: Sequence[Model],
    source: Path,  # noqa: ARG001
    target: Path,
    scan: TestScan,
    progress: ProgressCallback,
) -> Agreement:
    """Write a bundle, run it by MONAI on the scan, and compare its labels with ours; an `Exporter`.

    Raises:
        ExportError: a bundle cannot hold the model, or its labels are not ours.
        MissingExtraError: what runs bundles is not installed.
    """
    for module in ("ignite", "fire"):
        if not is_installed(module):  # looked for alone: Ignite warns when it is imported
            extra(module, "export as a MONAI bundle, whose self-test runs it")
    _check(models)
    progress("bundle", 0, 2)
    write_bundle(models, target)
    progress("bundle", 1, 2)
    agreement = _self_test(models, target, scan)
    refuse_disagreement(agreement, "a MONAI bundle")
    write_json(target / "docs" / "self_test.json", {"voxelry": version(), **agreement.as_dict()})
    progress("bundle", 2, 2)
    return agreement


def _check(models: Sequence[Model]) -> None:
    """Refuse what no bundle of ours holds.

    Raises:
        ExportError: naming it.
    """
    plan, table = models[0].plan, models[0].labels
    shared = (*SHARED_FIELDS, "normalisation", "network", "flips", "overlap")
    different = [name for name in shared if any(getattr(model.plan, name) != getattr(plan, name) for model in models)]
    others = [
        name
        for name, each in type(plan).model_fields.items()
        if name not in HELD_FIELDS and getattr(plan, name) != each.get_default(call_default_factory=True)
    ]
    reasons = {
        f"its plan's {', '.join(others)}": others,
        "a normalisation that it does not know": any(each.scheme not in SCHEMES for each in plan.normalisation),
        f"members that differ in {', '.join(different)}": different,
        "the second stage of a cascade": plan.configuration == "3d_cascade",
        "pictures that are scaled by their pixel size, which picture files do not state": plan.dimensions == 2
        and plan.spacing is not None,
        "labels on several layers": table.layers > 1,
        "rows of labels that are named by their order": plan.sequences,
        "a network of the user's own": ":" in plan.network.name,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ExportError(
                f"a MONAI bundle cannot hold this model: {reason}", remedy="Export it as onnx or openvino, or a single member."
            )


def write_bundle(models: Sequence[Model], folder: Path) -> None:
    """Write every file of a bundle.

    Args:
        models: of one plan.
        folder: an empty folder.
    """
    network = write_network(models, folder)
    scripts = folder / SCRIPTS
    scripts.mkdir()
    write_text(scripts / "__init__.py", '"""What this bundle needs beside MONAI."""\n')
    write_text(scripts / "interpolation.py", _source(interpolation))
    own = _source(bundle_pipeline).replace("voxelry.preparation.interpolation", f"{SCRIPTS}.interpolation")
    write_text(scripts / "bundle_pipeline.py", own)
    write_json(folder / "configs" / "metadata.json", bundle_metadata(models[0], network))
    write_json(folder / "configs" / "inference.json", _inference(models[0], network))
    write_text(folder / "configs" / "logging.conf", _LOGGING)
    members = [{"plan": _plain(model.plan), "card": _plain(model.card)} for model in models]
    write_json(folder / OWN_FILE, {"voxelry": version(), "members": members})
    write_text(folder / "docs" / "README.md", bundle_readme(models[0]))
    write_text(folder / "LICENSE", f"Weights: {models[0].card.licence or 'not stated'}\nscripts/: Apache-2.0 (voxelry)\n")


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = value.model_dump(mode="json", exclude_none=True)
    return plain


def _source(module: Any) -> str:
    return read_text(Path(str(module.__file__)))


def _inference(model: Model, network: BundleNetwork) -> dict[str, Any]:
    """``inference.json``."""
    plan = model.plan
    steps = f"{SCRIPTS}.bundle_pipeline."
    load: dict[str, Any] = {"_target_": "LoadImaged", "keys": "image", "image_only": True, "ensure_channel_first": True}
    if plan.dimensions == 2:
        load |= {"reader": "PILReader", "reverse_indexing": False}
    handlers: list[dict[str, Any]] = [{"_target_": "StatsHandler", "iteration_log": False}]
    if not network.is_script:
        loader = {"load_path": f"$@bundle_root + '/{WEIGHTS}'", "load_dict": {"model": "@network"}, "map_location": "@device"}
        handlers.insert(0, {"_target_": "CheckpointLoader", **loader})
    return {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "$@bundle_root + '/data'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": {"_target_": steps + "find_cases", "folder": "@dataset_dir", "channels": len(plan.channels)},
        "network_def": network.definition,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [load, {"_target_": steps + "PrepareScand", **_preparation(model)}],
        },
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False, "num_workers": 0},
        "inferer": _inferer(model, network, steps),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": steps + "RestoreLabelsd", **_restoring(model)},
                {"_target_": steps + "SaveLabelsd", "keys": "pred", "output_dir": "@output_dir"},
            ],
        },
        "handlers": handlers,
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@evaluator.run()"],
    }


def _preparation(model: Model) -> dict[str, Any]:
    plan = model.plan
    return {
        "keys": "image",
        "orientation": plan.orientation,
        "spacing": None if plan.spacing is None else list(plan.spacing),
        "long_side": plan.long_side,
        "orders": list(plan.image_orders),
        "smooth": plan.dimensions == 2,
        "normalisation": [_plain(each) for each in plan.normalisation],
        "mask_orders": list(plan.label_orders),
    }


def _restoring(model: Model) -> dict[str, Any]:
    plan, table = model.plan, model.labels
    values = table.from_classes(label_classes(plan, table))
    rules = [{"value": table[rule.label].value, **rule.model_dump(exclude={"label"})} for rule in model.card.clean_up]
    return {
        "keys": "pred",
        "orders": list(plan.label_orders),
        "values": np.asarray(values).tolist(),
        "regions": bool(plan.regions),
        "head": plan.head_channels,
        "clean_up": rules,
    }


def _inferer(model: Model, network: BundleNetwork, steps: str) -> dict[str, Any]:
    """MONAI's sliding window, in a mirroring one where the plan mirrors."""
    plan, table = model.plan, model.labels
    window = {
        "roi_size": list(plan.patch_size),
        "sw_batch_size": 1,
        "overlap": plan.overlap,
        "mode": "gaussian",
        "sigma_scale": 0.125,
        "padding_mode": "constant",
        "cval": 0.0,
    }
    axes = list(mirrored_axes(plan, table))
    if not axes:
        return {"_target_": "SlidingWindowInferer", **window}
    channels = output_classes(plan, len(table) + 1) + plan.head_channels
    first = channels - network.channels_out  # regions come without the background
    twins = [channel - first for channel in mirrored_channels(plan, table, channels)[first:]]
    return {"_target_": steps + "MirroringInferer", "axes": axes, "side_axis": plan.side_axis, "twins": twins, **window}


def _self_test(models: Sequence[Model], bundle: Path, scan: TestScan) -> Agreement:
    """Run the bundle by MONAI where voxelry cannot be imported, and compare its labels with ours.

    Raises:
        ExportError: MONAI cannot run it.
    """
    with tempfile.TemporaryDirectory(prefix="voxelry-") as place:
        volume = write_scan(scan.volume, Path(place) / "scans")
        run_bundle(bundle, Path(place) / "scans", Path(place) / "labels")
        (written,) = (Path(place) / "labels").iterdir()
        given = read_labels(written).array
    predictor = Predictor(models, "cpu", PredictOptions(mixed_precision="off", instances=False))
    wanted = predictor.predict(volume).labels
    return agreement_of(wanted, LabelMap.of(given.astype(wanted.array.dtype), wanted.geometry, wanted.table), scan.name)


def run_bundle(bundle: Path, scans: Path, labels: Path) -> None:
    """Run a bundle's inference by MONAI, in a process of its own that cannot import voxelry.

    Args:
        bundle: the bundle's folder; its code is run.
        scans: ``dataset_dir``.
        labels: ``output_dir``.

    Raises:
        ExportError: it fails.
    """
    settings = {
        "config_file": "configs/inference.json",
        "bundle_root": bundle.resolve(),
        "dataset_dir": scans,
        "output_dir": labels,
    }
    line = [sys.executable, "-c", _WITHOUT_VOXELRY, "run", *(f"--{name}={value}" for name, value in settings.items())]
    plain = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(line, cwd=bundle, env=plain, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0 or not labels.is_dir():
        reason = json.dumps(" ".join(done.stderr.split())[-400:])
        raise ExportError(f"MONAI cannot run the bundle: {reason}", remedy="Export it as onnx or openvino.")


def write_scan(volume: Volume, folder: Path) -> Volume:
    """Write a scan as bundles read it, a file for each channel, and return it as written: pictures get whole numbers.

    Args:
        volume: the scan.
        folder: a new folder.
    """
    folder.mkdir()
    if volume.geometry.ndim == 3:
        for number in range(volume.channels):
            channel = Volume(volume.array[number : number + 1], volume.geometry)
            write_nifti_image(channel, folder / f"scan_{number:04d}.nii.gz")
        return volume
    kind = np.uint8 if volume.channels == COLOURS or volume.array.max() <= LARGEST else np.uint16
    whole = np.clip(np.rint(volume.array), 0, np.iinfo(kind).max).astype(kind)
    pictures = [np.moveaxis(whole, 0, -1)] if len(whole) == COLOURS else list(whole)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"scan_{number:04d}.png")
    return replace(volume, pixels=whole)
