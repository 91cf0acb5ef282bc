"""Dice and IoU as a cumulative MONAI metric, for validation loops written against `monai.metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.metrics.metric import CumulativeIterationMetric

from voxelry.core.labels import IGNORE_INDEX
from voxelry.errors import GridMismatchError, LabelError
from voxelry.metrics.overlap import confusion
from voxelry.metrics.scores import Scores

if TYPE_CHECKING:
    from collections.abc import Sequence


class OverlapMetric(CumulativeIterationMetric):  # type: ignore[misc]
    """Dice and IoU of all images since the last `reset`, from one confusion matrix for each image.

    Use it as any `monai.metrics.CumulativeIterationMetric`: call it with a batch, `aggregate`, `reset`; it gathers over
    processes as MONAI's metrics do. Unlike `monai.metrics.DiceMetric` it needs no one-hot masks, takes an ignore index, and
    averages over cases first and then over labels, so that a label missing in most cases weighs as much as any other.

    Args:
        labels: L names, background left out.
        ignore: the value of `y` that is not counted.
    """

    def __init__(self, labels: Sequence[str], ignore: int | None = IGNORE_INDEX) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.ignore = ignore

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        """Confusion matrices of a batch.

        Args:
            y_pred: ``(B, L + 1, *spatial)`` scores or one-hot, background first, or ``(B, 1, *spatial)`` class indices.
            y: the truth in either form.

        Returns:
            ``(B, (L + 1) ** 2)`` int64, flat as MONAI buffers want them.
        """
        if y is None:
            raise GridMismatchError("overlap needs a reference batch `y`", remedy="Call it with (y_pred, y).")
        guess, truth = self._indices(y_pred, "y_pred"), self._indices(y, "y")
        size = len(self.labels) + 1
        matrices = [confusion(t, p, size, self.ignore) for t, p in zip(truth, guess, strict=True)]
        return torch.from_numpy(np.stack(matrices).reshape(len(matrices), size * size)).to(y_pred.device)

    def aggregate(self) -> torch.Tensor:
        """The mean Dice over cases and labels as a scalar tensor (see `Scores.mean_dice`); NaN if nothing has a score."""
        return torch.tensor(self.scores().mean_dice, dtype=torch.float64)

    def scores(self) -> Scores:
        """The scores of all images since the last `reset`; each is a case named by its number."""
        size = len(self.labels) + 1
        buffer = self.get_buffer()
        matrices = np.zeros((0, size, size), dtype=np.int64) if buffer is None else buffer.cpu().numpy().reshape(-1, size, size)
        return Scores(tuple(map(str, range(len(matrices)))), self.labels, matrices)

    def _indices(self, batch: torch.Tensor, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """``(B, *spatial)`` class indices of a batch in either form."""
        channels = batch.shape[1]
        if channels not in (1, len(self.labels) + 1):
            raise LabelError(
                f"{name}: {channels} channels for {len(self.labels)} labels and background",
                remedy="Give class indices in one channel, or a channel for each class, background first.",
            )
        classes = batch[:, 0] if channels == 1 else batch.argmax(dim=1)
        if not torch.equal(classes, classes.to(torch.int64).to(classes.dtype)):
            raise LabelError(f"{name}: class indices that are not whole numbers", remedy="Take the argmax first.")
        indices: np.ndarray[Any, np.dtype[np.int64]] = classes.detach().cpu().to(torch.int64).numpy()
        return indices
