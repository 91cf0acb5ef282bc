"""Peak memory of segmenting a large phantom under a budget: one process per phantom, and the arithmetic."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import memory_mb

BUDGET_MB = 4096
PATCH, SPACING, FEATURES = (64, 128, 128), 1.5, (8, 16, 16)
GRID = (1.0, 0.8, 0.8)
SLACK_MB = 32
"""Of the arithmetic: pages that the allocator keeps, and that differ from one process to the next."""


class _LoggedValues(logging.Handler):
    """Keeps the values that the segmenter logs, its memory split among them."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the arguments of a line."""
        self.values += record.args if isinstance(record.args, tuple) else ()


def phantom(across: int, slices: int) -> Any:
    """A CT of a body with round organs that change from slice to slice: ``(slices, across, across)`` int16."""
    scan = np.full((slices, across, across), -1000, np.int16)
    y, x = np.ogrid[-1 : 1 : across * 1j, -1 : 1 : across * 1j]
    for z, plane in enumerate(scan):
        plane[(y / 0.7) ** 2 + (x / 0.9) ** 2 < 1] = 40
        for organ in range(12):
            angle, radius = 0.52 * organ, 0.1 + 0.04 * math.sin(0.05 * z + organ)
            inside = (y - 0.4 * math.sin(angle)) ** 2 + (x - 0.55 * math.cos(angle)) ** 2 < radius**2
            plane[inside] = -200 + 100 * organ
    return scan


def segment(across: int, slices: int, classes: int) -> Callable[[], dict[str, float]]:
    """A process's work: peak of all its memory in MB, and the parts that it should consist of."""
    import inference_contestants as contestants

    from voxelry.core.geometry import Geometry
    from voxelry.core.volume import Volume
    from voxelry.inference.memory_budget import MemorySplit
    from voxelry.inference.patches import PatchGrid
    from voxelry.inference.predict_options import PredictOptions
    from voxelry.inference.predictor import Predictor
    from voxelry.inference.ring_buffer import ring_bytes
    from voxelry.preparation.preparation import prepare

    patch = PATCH if across == 512 else (16, 32, 32)
    plan = contestants.plan_of(patch, FEATURES, (SPACING,) * 3)
    model = contestants.model_of(plan, classes, (slices, across, across))
    predictor = Predictor(model, "cpu", PredictOptions(memory=BUDGET_MB << 20, overlap=0.0, mixed_precision="off"))
    scan = phantom(across, slices)[None]
    volume = Volume(scan, Geometry.from_spacing(scan.shape[1:], GRID))
    logged, logger = _LoggedValues(), logging.getLogger("voxelry.inference.segmenter")
    logger.addHandler(logged)
    logger.setLevel(logging.INFO)

    def run() -> dict[str, float]:
        labels = predictor.predict(volume).labels.array
        grid = PatchGrid.of(prepare(volume, plan).shape, plan.patch_size, overlap=0.0)
        split = next(value for value in logged.values if isinstance(value, MemorySplit))
        return {
            "slices": slices,
            "classes": classes,
            "peak_mb": memory_mb("VmHWM"),
            "scan_mb": scan.nbytes / 2**20,
            "labels_mb": labels.nbytes / 2**20,
            "ring_mb": ring_bytes(classes, grid.ring_shape, split.half) / 2**20,
            "half": split.half,
            "logits_mb": 4 * classes * math.prod(patch) / 2**20,
        }

    return run


def judge(answers: list[dict[str, float]], seconds: list[float]) -> list[dict[str, Any]]:
    """Rows: half the slices with many classes, all slices with many classes, all slices with few.

    The first row's claim is the budget alone; the second's that more slices cost their scan and their labels; the third's that
    more classes cost their share of the ring buffer and of a patch's logits.
    """
    half, many, few = answers
    grown = many["peak_mb"] - half["peak_mb"]
    due = sum(many[name] - half[name] for name in ("scan_mb", "labels_mb"))
    wider = many["peak_mb"] - few["peak_mb"]
    wide = sum(many[name] - few[name] for name in ("ring_mb", "logits_mb"))
    notes = (
        ("", True),
        (f"{grown:+.0f} MB for slices, {due:.0f} due", grown <= due + SLACK_MB),
        (f"{wider:+.0f} MB for classes, {wide:.0f} due", wider <= wide + SLACK_MB),
    )
    rows = []
    for answer, took, (note, kept) in zip(answers, seconds, notes, strict=True):
        numbers = {name: round(value) for name, value in answer.items()}
        rows.append({**numbers, "seconds": round(took), "arithmetic": note, "holds": kept and answer["peak_mb"] < BUDGET_MB})
    return rows
