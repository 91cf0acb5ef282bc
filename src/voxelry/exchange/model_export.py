"""Exports a model in a format of other programs, whole or not at all, after a self-test.

An exported folder of ONNX or OpenVINO is the model's own folder with more files in it: beside the weights of each network lie the
network in that format and ``network.json``, which says what it takes and gives. So voxelry itself segments with it too.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from voxelry.base.files import atomic_folder, write_json
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.base.version import version
from voxelry.core.model import Model
from voxelry.errors import ExportError, UsageError, nearest
from voxelry.exchange.agreement import Agreement, TestScan, check_logits_agree, compare_networks, refuse_disagreement
from voxelry.exchange.bundle_export import export_bundle
from voxelry.exchange.int8_export import export_int8
from voxelry.exchange.network_files import FACTS_FILE, NETWORK_FORMATS, NetworkFormat, empty_patch, network_facts
from voxelry.exchange.nnunet_export import export_nnunet
from voxelry.exchange.sample_scan import make_sample_scan
from voxelry.inference.backends import file_forward
from voxelry.inference.forward import Forward, torch_forward
from voxelry.networks.weights import load_models, network_of

INT8 = "openvino-int8"
SELF_TEST_FILE = "self_test.json"

LOGIT_TOLERANCE = 1e-3
"""Largest error of an exported network's logits on random numbers, as a share of PyTorch's: both compute in float32."""


@dataclass(frozen=True)
class ExportedModel:
    """A model as it was exported.

    Attributes:
        folder: where it lies.
        format: name of the format.
        files: what was written, relative to the folder.
        agreement: of its labels with PyTorch's.

    Example:
        >>> from pathlib import Path
        >>> from voxelry.exchange import Agreement, ExportedModel
        >>> agreement = Agreement("a.nii.gz", 1000, 100, 1.0, {"liver": 1.0})
        >>> ExportedModel(Path("exported"), "onnx", ("network.onnx",), agreement).agreement.share
        1.0
    """

    folder: Path
    format: str
    files: tuple[str, ...]
    agreement: Agreement


class Exporter(Protocol):
    """Writes models in a format."""

    def __call__(
        self, models: Sequence[Model], source: Path, target: Path, scan: TestScan, progress: ProgressCallback
    ) -> Agreement:
        """Write and test.

        Args:
            models: the model, or the members of an ensemble.
            source: their folder.
            target: an empty folder.
            scan: what to segment for the test.
            progress: called as networks are written.
        """
        ...


def export_folder(
    source: Path,
    target: Path,
    format: str,
    scan: TestScan | None = None,
    calibration: Path | None = None,
    progress: ProgressCallback = no_progress,
) -> ExportedModel:
    """Export a model, or an ensemble, in a format.

    Args:
        source: the model's folder.
        target: where; replaced if it exists.
        format: a name of `EXPORTERS`, or `INT8`.
        scan: a scan to segment for the self-test; None for one that is made.
        calibration: a dataset card, for int8 alone.
        progress: called as networks are written.

    Raises:
        UsageError: no such format; int8 without a card, or a card without int8.
        ModelError: no model, or a damaged one.
        ExportError: the format cannot hold the model, or its labels are not PyTorch's.
        MissingExtraError: what the format needs is not installed.
    """
    if format not in (*EXPORTERS, INT8):
        raise UsageError(f"no format '{format}' of models", remedy=nearest(format, (*EXPORTERS, INT8)))
    if (format == INT8) != (calibration is not None):
        raise UsageError(
            f"format {format} {'without' if calibration is None else 'with'} a card to calibrate on",
            remedy=f"{INT8} needs one (--calibration), the other formats none.",
        )
    models = load_models(source)
    if any(model.card.classes for model in models):
        raise ExportError(f"{source}: a model of several parts, which no format holds", remedy="Export each part alone.")
    with atomic_folder(target) as temporary:
        if calibration is not None:
            agreement = export_int8(models, source, temporary, calibration, progress)
        else:
            agreement = EXPORTERS[format](models, source, temporary, scan or TestScan(make_sample_scan(models[0])), progress)
        files = tuple(sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file()))
    return ExportedModel(target, format, files, agreement)


def network_exporter(format: NetworkFormat) -> Exporter:
    """The exporter of a format that holds a network alone."""

    def export(models: Sequence[Model], source: Path, target: Path, scan: TestScan, progress: ProgressCallback) -> Agreement:
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        forwards: dict[Model, Forward] = {}
        networks = [stage for model in models for stage in (model, model.previous) if stage is not None]
        for number, model in enumerate(networks):
            progress("networks", number, len(networks))
            assert model.path is not None
            forwards[model] = _write_network(model, target / model.path.relative_to(source), format)
        progress("networks", len(networks), len(networks))
        agreement = compare_networks(tuple(models), forwards, scan)
        refuse_disagreement(agreement, format.title)
        write_json(target / SELF_TEST_FILE, {"format": format.title, "voxelry": version(), **agreement.as_dict()})
        return agreement

    return export


def _write_network(model: Model, place: Path, format: NetworkFormat) -> Forward:
    """Write a network beside its weights, and read it back as a forward pass that gives the same logits."""
    cpu = torch.device("cpu")
    network, patch_BC = network_of(model, cpu), empty_patch(model)
    format.write(network, patch_BC, place / format.file)
    write_json(place / FACTS_FILE, network_facts(model, format))
    forward = file_forward(place / format.file)
    random_BC = torch.randn(patch_BC.shape, generator=torch.Generator().manual_seed(0))
    check_logits_agree(forward, torch_forward(network, cpu, torch.float32), random_BC, LOGIT_TOLERANCE)
    return forward


EXPORTERS: Mapping[str, Exporter] = {
    **{name: network_exporter(format) for name, format in NETWORK_FORMATS.items()},
    "bundle": export_bundle,
    "nnunet": export_nnunet,
}
"""Name -> what writes the format; `voxelry export --format` takes these."""
