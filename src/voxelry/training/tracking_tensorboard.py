"""Tracks training with TensorBoard event files in the run's folder."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxelry.base.extras import extra

FOLDER = "tensorboard"


class TensorBoard:
    """Event files in ``tensorboard/`` of a run: ``tensorboard --logdir RUN``.

    Args:
        folder: folder of the run.
        step: steps done; events of later steps are superseded (a killed run had got further than its checkpoint).
    """

    def __init__(self, folder: Path, step: int) -> None:
        extra("tensorboard", "track: tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / FOLDER), purge_step=step + 1 if step else None)
        self.hook = threading.excepthook
        threading.excepthook = self._on_thread_error

    def describe(self, texts: Mapping[str, str], parameters: Mapping[str, str]) -> None:
        """Record recipe and plan as texts; single settings are in the recipe."""
        del parameters
        for name, text in texts.items():
            self.writer.add_text(name, f"```\n{text}\n```", 0)

    def measure(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at a step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write to the file."""
        self.writer.flush()

    def finish(self, facts: Mapping[str, str]) -> None:
        """Record facts as texts."""
        for name, fact in facts.items():
            self.writer.add_text(name, fact)

    def close(self) -> None:
        """Close the file."""
        try:
            self.writer.close()
        finally:
            threading.excepthook = self.hook

    def _on_thread_error(self, error: threading.ExceptHookArgs) -> None:
        """What ends the writer's thread is raised by the next call; it is not printed."""
        if not (error.thread is not None and type(error.thread).__module__.startswith("tensorboard.")):
            self.hook(error)
