"""Reads nnU-Net's checkpoints, which are pickles: numbers, text, tensors and numpy scalars alone; anything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxelry.errors import ModelError
from voxelry.exchange.checkpoint_archive import FAILURES, read_archive
from voxelry.networks.network_spec import one_line

_SCALARS: list[Any] = [
    *((np._core.multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # type: ignore[attr-defined]
    np.dtype,
    *(getattr(np.dtypes, f"{name}DType") for name in ("Float64", "Float32", "Float16", "Int64", "Int32", "Bool")),
]
"""What numpy's scalars are made of, under the names of numpy 1 and 2; nnU-Net's log of losses holds them."""


@dataclass(frozen=True)
class NnunetCheckpoint:
    """What inference needs of a checkpoint.

    Attributes:
        configuration: name of the configuration, such as ``3d_fullres``.
        trainer: name of the trainer's class.
        mirror_axes: spatial axes of the network that patches are mirrored along.
        weights: parameter name -> tensor, as nnU-Net names them.
        epoch: epochs done.
    """

    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    weights: Mapping[str, Tensor]
    epoch: int


def read_checkpoint(path: Path) -> NnunetCheckpoint:
    """Read a checkpoint; nothing in it can execute.

    Args:
        path: ``checkpoint_final.pth`` or ``checkpoint_best.pth``.

    Raises:
        ModelError: it asks for code, is damaged, or is no checkpoint of nnU-Net v2.
    """
    content = _unpickled(path)
    try:
        arguments = content["init_args"]
        mirrored = content.get("inference_allowed_mirroring_axes")
        weights = {
            name.removeprefix("module.").removeprefix("_orig_mod."): tensor for name, tensor in content["network_weights"].items()
        }
        checkpoint = NnunetCheckpoint(
            configuration=str(arguments["configuration"]),
            trainer=str(content["trainer_name"]),
            mirror_axes=tuple(int(axis) for axis in mirrored or ()),
            weights=weights,
            epoch=int(content.get("current_epoch", 0)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{path}: no checkpoint of nnU-Net v2 ({type(error).__name__}: {error})",
            remedy="Give a results folder of nnU-Net 2.4 to 2.8, with the checkpoint that training wrote.",
        ) from error
    if not weights or not all(isinstance(tensor, Tensor) and tensor.layout == torch.strided for tensor in weights.values()):
        raise ModelError(f"{path}: its network_weights are no tensors", remedy="Copy the checkpoint again.")
    return checkpoint


def _unpickled(path: Path) -> Any:
    """The content of a checkpoint."""
    try:
        return read_archive(path, _SCALARS)
    except FAILURES as error:
        reason = one_line(error) or type(error).__name__
        raise ModelError(f"{path}: cannot be read ({reason})", remedy="Copy the checkpoint again.") from error
