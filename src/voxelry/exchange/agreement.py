"""Self-test of an exported network: labels of a whole scan by it, and by PyTorch in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from voxelry.core.model import Model
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError
from voxelry.inference.forward import Forward
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.inference.segmenter import Segmenter
from voxelry.metrics.functional import dice

LEAST_AGREEMENT = 0.999
"""The share of a scan's voxels that must get the same label."""


@dataclass(frozen=True)
class TestScan:
    """The scan of a self-test.

    Attributes:
        volume: the scan.
        name: what it is called.
    """

    __test__ = False  # for pytest

    volume: Volume
    name: str = "sample scan"


@dataclass(frozen=True)
class Agreement:
    """How far labels of an exported model are those of PyTorch.

    Attributes:
        scan: name of the scan.
        voxels: voxels of the scan.
        labelled: voxels that PyTorch gives a label.
        share: share of all voxels with the same label, 0..1.
        dice: label name -> Dice between the two, None where neither gave it.

    Example:
        >>> from voxelry.exchange import Agreement
        >>> Agreement("a.nii.gz", 1000, 100, 0.9995, {"liver": 0.99}).is_enough
        True
    """

    scan: str
    voxels: int
    labelled: int
    share: float
    dice: dict[str, float | None]

    @property
    def is_enough(self) -> bool:
        """Whether the share is at least `LEAST_AGREEMENT`."""
        return self.share >= LEAST_AGREEMENT

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def agreement_of(wanted: LabelMap, given: LabelMap, name: str) -> Agreement:
    """Compare two label maps of one table and grid.

    Args:
        wanted: by PyTorch.
        given: by the exported model.
        name: name of the scan.
    """
    same = wanted.layers == given.layers
    scores = dice(wanted, given)
    return Agreement(
        scan=name,
        voxels=int(same.size),
        labelled=int(np.count_nonzero(wanted.layers)),
        share=float(same.mean()),
        dice={label: None if np.isnan(value) else float(value) for label, value in scores.items()},
    )


def compare_networks(models: tuple[Model, ...], forwards: Mapping[Model, Forward], scan: TestScan) -> Agreement:
    """Segment a scan by PyTorch in float32, and with other forward passes in the networks' place.

    Args:
        models: the model, or the members of an ensemble.
        forwards: of each of them, and of each first stage of a cascade, the network to be tested.
        scan: the scan.
    """
    options = replace(PredictOptions(), mixed_precision="off")
    predictor = Predictor(models, "cpu", options)
    wanted = predictor.predict(scan.volume).labels
    put_in_place(predictor.segmenter, forwards)
    return agreement_of(wanted, predictor.predict(scan.volume).labels, scan.name)


def put_in_place(segmenter: Segmenter, forwards: Mapping[Model, Forward]) -> None:
    """Let a segmenter, and its first stages, compute by these forward passes."""
    for ensemble, first in zip(segmenter.ensembles, segmenter.first_stages, strict=True):
        ensemble.members.take([forwards[model] for model in ensemble.models])
        if first is not None:
            put_in_place(first, forwards)


def check_logits_agree(forward: Forward, plain: Forward, patch_BC: torch.Tensor, tolerance: float) -> float:
    """The error of an exported network's logits, root mean square, as a share of PyTorch's.

    Raises:
        ExportError: it is larger than `tolerance`.
    """
    wanted = plain(patch_BC).float()
    error = float((forward(patch_BC).float() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
    if not error <= tolerance:
        raise ExportError(
            f"the exported network gives other logits than PyTorch: they differ by {error:.3g} of their size",
            remedy="Export in another format, and report this model's network.",
        )
    return error


def refuse_disagreement(agreement: Agreement, format: str) -> None:
    """Refuse an export whose labels are not PyTorch's.

    Raises:
        ExportError: less than `LEAST_AGREEMENT` of the voxels agree.
    """
    if not agreement.is_enough:
        raise ExportError(
            f"{agreement.scan}: only {agreement.share:.4%} of the labels of the network as {format} are PyTorch's, where "
            f"{LEAST_AGREEMENT:.1%} are asked for",
            remedy="Export in another format.",
        )
