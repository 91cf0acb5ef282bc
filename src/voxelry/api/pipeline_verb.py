"""The verb for those who know transformers: `voxelry.pipeline`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voxelry.api.prediction_verbs import load_model
from voxelry.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch

    from voxelry.adapters.segmentation_pipeline import SegmentationPipeline

__all__ = ["pipeline"]

PathLike = str | os.PathLike[str]

TASKS = ("image-segmentation",)


def pipeline(
    task: str,
    model: PathLike | Sequence[PathLike],
    *,
    device: str | int | torch.device | None = "auto",
    network: str | None = None,
    **choices: Any,
) -> SegmentationPipeline:
    """Load a model as Hugging Face's `pipeline` does: called with images it answers with label, score and mask of each segment.

    Args:
        task: ``image-segmentation``, of pictures and of volumes.
        model: a model folder or the name of a model (`models` lists them); or several whose predictions are averaged.
        device: ``auto``, ``cpu``, ``cuda``...; as there, ``-1`` is the CPU and another number that GPU,
            a `torch.device` is taken too, and None is ``auto``.
        network: import path of the model's custom network; its code is run.
        choices: as for `load_model`.

    Returns:
        A `voxelry.adapters.SegmentationPipeline`: ``pipe(image)``, and ``pipe([image, ...])``, of paths, PIL images, arrays of
        pictures, or Volumes.

    Raises:
        ModelError: the model cannot be used.
        UsageError: another task, an unknown choice, a value out of range.

    Example:
        >>> import voxelry
        >>> try:
        ...     voxelry.pipeline("object-detection", model="lungs")
        ... except voxelry.VoxelryError as error:
        ...     print(error)
        task 'object-detection' is none that voxelry has. Known: image-segmentation.
    """
    if task not in TASKS:
        raise UsageError(f"task '{task}' is none that voxelry has", remedy=nearest(str(task), TASKS))
    from voxelry.adapters.segmentation_pipeline import SegmentationPipeline
    from voxelry.cohort.task_files import default_task
    from voxelry.inference.predict_options import PROBABILITY

    named = str("auto" if device is None else device)
    if isinstance(device, int):
        named = "cpu" if device < 0 else f"cuda:{device}"
    predictor = load_model(model, device=named, network=network, **{"confidence": PROBABILITY, **choices})
    return SegmentationPipeline(predictor, default_task(predictor.model.plan))
