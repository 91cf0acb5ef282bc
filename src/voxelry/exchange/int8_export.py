"""int8 by OpenVINO's NNCF: calibrated on training cases, and its loss of Dice and its speed measured on validation cases."""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.base.device import compute_dtype
from voxelry.base.extras import extra
from voxelry.base.files import write_json
from voxelry.base.progress import ProgressCallback
from voxelry.base.version import version
from voxelry.core.model import Model
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.errors import ExportError
from voxelry.exchange.agreement import Agreement, agreement_of, put_in_place
from voxelry.exchange.network_files import FACTS_FILE, NETWORK_FORMATS, empty_patch, network_facts
from voxelry.inference.backends import file_forward, openvino_forward, openvino_model
from voxelry.inference.forward import Forward, torch_forward
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.metrics.functional import dice
from voxelry.networks.weights import network_of
from voxelry.preparation.preparation import prepare
from voxelry.training.setup import labelled_cases

log = logging.getLogger(__name__)

CASES, PATCHES = 12, 8
"""Training cases, and patches of each, that ranges of numbers are taken from."""

LARGEST_LOSS = 0.01
"""Of mean Dice on the validation cases."""

TIMED = 7
"""Passes of a patch of which the median counts."""


@dataclass(frozen=True)
class Int8Measures:
    """What int8 costs and gains.

    Attributes:
        calibration: patches that ranges were taken from.
        cases: validation cases.
        dice: label name -> mean Dice of PyTorch in float32 and of int8; cases without the label in reference and prediction are
            left out.
        loss: of mean Dice.
        seconds: seconds a patch by PyTorch, by OpenVINO in float32 and in the half type of this machine, and by int8.
        speedup: of int8 over the fastest of the others.
    """

    calibration: int
    cases: int
    dice: dict[str, tuple[float, float]]
    loss: float
    seconds: dict[str, float]
    speedup: float


def export_int8(models: Sequence[Model], source: Path, target: Path, card: Path, progress: ProgressCallback) -> Agreement:
    """Write the model's folder with its network as OpenVINO in int8, and measure it.

    Args:
        models: one model.
        source: its folder.
        target: an empty folder.
        card: a dataset card with labelled training cases, to calibrate on, and validation cases, to measure on.
        progress: called as it goes on.

    Raises:
        ExportError: an ensemble or a cascade, or a loss of Dice above `LARGEST_LOSS`.
        ManifestError: the card lacks cases.
    """
    if len(models) > 1 or models[0].previous is not None:
        raise ExportError("int8 is calibrated for one network, and this is an ensemble or a cascade", remedy="Export a member.")
    model, manifest = models[0], load_manifest(card)
    training, validation = labelled_cases(manifest, "train"), labelled_cases(manifest, "val")
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    format = replace(NETWORK_FORMATS["openvino"], title="OpenVINO int8")
    patches = list(_patches(model, manifest, training, progress))
    network = network_of(model, torch.device("cpu"))
    _write_int8(openvino_model(network, empty_patch(model)), patches, target / format.file)
    write_json(target / FACTS_FILE, network_facts(model, format))
    forward = file_forward(target / format.file)
    dice_values, agreement = _compare(model, forward, manifest, validation, progress)
    loss = float(np.mean([before - after for before, after in dice_values.values()]))
    seconds = _seconds(network, target / format.file, torch.from_numpy(patches[0]))
    speedup = min(value for name, value in seconds.items() if name != "int8") / seconds["int8"]
    measures = Int8Measures(len(patches), len(validation), dice_values, loss, seconds, speedup)
    write_json(target / "self_test.json", {"voxelry": version(), **asdict(measures), "agreement": agreement.as_dict()})
    log.info("int8: %.4f of Dice lost on %d cases, %.2f times as fast", loss, len(validation), speedup)
    if not loss <= LARGEST_LOSS:
        raise ExportError(
            f"int8 costs {loss:.4f} of mean Dice on {len(validation)} validation cases, where {LARGEST_LOSS} is allowed",
            remedy="Export as openvino, which computes in float32 or bfloat16.",
        )
    return agreement


def _patches(
    model: Model, manifest: Manifest, cases: Sequence[Case], progress: ProgressCallback
) -> Iterator[NDArray[np.float32]]:
    """Patches ``(1, C, *patch)`` at random places of prepared cases that lie evenly in the list."""
    chosen = [cases[number] for number in np.unique(np.linspace(0, len(cases) - 1, min(CASES, len(cases))).astype(int))]
    rng, patch = np.random.default_rng(0), model.plan.patch_size
    for number, case in enumerate(chosen):
        progress("calibration", number, len(chosen))
        volume, _ = load_case(case, manifest)
        image = prepare(volume, model.plan).image(volume)
        lacking = [max(0, edge - size) for edge, size in zip(patch, image.shape[1:], strict=True)]
        image = np.pad(image, [(0, 0), *((lack // 2, lack - lack // 2) for lack in lacking)])
        for _ in range(PATCHES):
            first = [int(rng.integers(0, size - edge + 1)) for size, edge in zip(image.shape[1:], patch, strict=True)]
            box = tuple(slice(begin, begin + edge) for begin, edge in zip(first, patch, strict=True))
            yield np.ascontiguousarray(image[(slice(None), *box)][None])
    progress("calibration", len(chosen), len(chosen))


def _write_int8(network: Any, patches: Sequence[NDArray[np.float32]], path: Path) -> None:
    """Quantise weights and activations to int8 by the ranges that patches give, and write the network."""
    nncf, openvino = silent_nncf(), extra("openvino", "export as int8")
    data = nncf.Dataset(list(patches))
    quantised = nncf.quantize(network, data, subset_size=len(patches), preset=nncf.QuantizationPreset.MIXED)
    openvino.save_model(quantised, path, compress_to_fp16=False)


def silent_nncf() -> Any:
    """NNCF, without what it prints, and without its reports of each use to its makers, for which it looks when it is imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ["NNCF_CI"] = "true"
    nncf = extra("nncf", "export as int8")
    nncf.set_log_level(logging.ERROR)
    return nncf


def _compare(
    model: Model, forward: Forward, manifest: Manifest, cases: Sequence[Case], progress: ProgressCallback
) -> tuple[dict[str, tuple[float, float]], Agreement]:
    """Mean Dice of each label by PyTorch and by int8, and how far both agree on the first case."""
    options = PredictOptions(mixed_precision="off")
    plain, changed = Predictor(model, "cpu", options), Predictor(model, "cpu", options)
    put_in_place(changed.segmenter, {model: forward})
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in model.labels.names}
    first: Agreement | None = None
    for number, case in enumerate(cases):
        progress("validation", number, len(cases))
        volume, reference = load_case(case, manifest)
        assert reference is not None
        wanted, given = _predicted(plain, volume), _predicted(changed, volume)
        first = first or agreement_of(wanted, given, case.id)
        before, after = dice(reference, wanted), dice(reference, given)
        for name in scores:
            if not np.isnan(before.get(name, np.nan)) and not np.isnan(after.get(name, np.nan)):
                scores[name].append((before[name], after[name]))
    progress("validation", len(cases), len(cases))
    assert first is not None
    means = {name: np.mean(pairs, axis=0).tolist() for name, pairs in scores.items() if pairs}
    return {name: (pair[0], pair[1]) for name, pair in means.items()}, first


def _predicted(predictor: Predictor, volume: Volume) -> LabelMap:
    return predictor.predict(volume).labels


def _seconds(network: torch.nn.Module, file: Path, patch_BC: Tensor) -> dict[str, float]:
    """Median seconds of a patch's pass; what int8 leaves in floats is computed in the half type, too."""
    cpu = torch.device("cpu")
    half = compute_dtype(cpu, "auto")
    forwards = {"pytorch": torch_forward(network, cpu, half), "openvino float32": openvino_forward(network, cpu, torch.float32)}
    if half != torch.float32:
        forwards["openvino half"] = openvino_forward(network, cpu, half)
    return {name: _median(forward, patch_BC) for name, forward in {**forwards, "int8": file_forward(file, half)}.items()}


def _median(forward: Forward, patch_BC: Tensor) -> float:
    forward(patch_BC)
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        forward(patch_BC)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
