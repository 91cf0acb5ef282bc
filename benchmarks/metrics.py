"""The claim: voxelry's metrics agree with their peers and are faster by the factors in `TASKS`, within the memory stated there.

    python benchmarks/metrics.py [--quick] [--peers FOLDER] [--json FILE]

Peers are installed into a virtual environment of their own (by default `build/peers`). Every contestant runs in its own process
on the same arrays, in turn (ours, theirs, ours, theirs...); figures are ratios of medians. Extra memory is the peak of resident
memory during a run less that before it, imports, compiled code and inputs loaded. Exits with 1 if a claim does not hold.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from harness import Task, run_tasks, serve

LIBRARIES = ("numpy", "scipy", "numba", "SimpleITK", "monai", "torch", "surface-distance", "nnunetv2", "panoptica")


TASKS = (
    Task("overlap (Dice, IoU)", "organs.npy", "overlap_voxelry", {"overlap_simpleitk": 5, "overlap_nnunet": 40}, 1e-12, 50),
    Task("overlap (Dice, IoU)", "organs.npy", "overlap_voxelry", {"overlap_monai": 250}, 1e-5, 50),
    Task("HD95, MSD, NSD by elements", "organs.npy", "surface_voxelry", {"surface_deepmind": 5}, 1e-6, 150),
    Task("HD95, ASSD by border voxels", "organs.npy", "border_voxelry", {"border_monai": 25}, 1e-3, 150),
    Task("HD95, MSD, NSD, distant", "distant.npy", "surface_voxelry", {"surface_deepmind": 1}, 1e-6, 150),
    Task("lesion-wise", "lesions.npy", "lesions_voxelry", {"lesions_panoptica": 20}, 1e-6),
)


def organs(shape: tuple[int, ...], count: int, move: tuple[int, ...], seed: int = 0) -> tuple[Any, Any]:
    """Wavy ellipsoids in a row of two, label 1..count, and the same moved and dented."""
    rng = np.random.default_rng(seed)
    reference, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for label in range(1, count + 1):
        cell = np.array([shape[0], shape[1] / 2, shape[2] / ((count + 1) // 2)])
        corner = np.array([0, (label - 1) % 2, (label - 1) // 2]) * cell
        middle, radii = corner + cell / 2, cell * rng.uniform(0.3, 0.42, 3)
        phase = rng.uniform(0, 6, 3)
        for target, shift, wave in ((reference, (0, 0, 0), 0.05), (prediction, move, 0.07)):
            _draw(target, label, middle + shift, radii, phase, wave)
    return reference, prediction


def _draw(target: Any, label: int, middle: Any, radii: Any, phase: Any, wave: float) -> None:
    low = np.maximum(0, (middle - 1.3 * radii).astype(int))
    high = np.minimum(target.shape, (middle + 1.3 * radii).astype(int) + 1)
    z, y, x = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    u, v, w = ((axis - m) / r for axis, m, r in zip((z, y, x), middle, radii, strict=True))
    inside = u**2 + v**2 + w**2 < 1 + wave * (np.sin(5 * u + phase[0]) + np.sin(7 * v + phase[1]) + np.sin(6 * w + phase[2]))
    target[tuple(slice(a, b) for a, b in zip(low, high, strict=True))][inside] = label


def lesions(size: int, labels: int, count: int, seed: int = 0) -> tuple[Any, Any]:
    """Small balls of each label; the prediction misses some, moves the others by up to two voxels, and adds a few."""
    rng = np.random.default_rng(seed)
    reference, prediction = np.zeros((size,) * 3, np.uint8), np.zeros((size,) * 3, np.uint8)
    for label in range(1, labels + 1):
        for _ in range(count):
            middle, radius = rng.uniform(8, size - 8, 3), np.full(3, rng.uniform(2, 6))
            _draw(reference, label, middle, radius, np.zeros(3), 0.0)
            if rng.random() < 0.85:
                _draw(prediction, label, middle + rng.uniform(-2, 2, 3), radius, np.zeros(3), 0.0)
            if rng.random() < 0.1:
                _draw(prediction, label, rng.uniform(8, size - 8, 3), radius, np.zeros(3), 0.0)
    return reference, prediction


def make_inputs(folder: Path, quick: bool) -> None:
    """Write each pair as ``NAME.npy``, shape ``(2, *spatial)`` uint8."""
    shape, size = ((60, 128, 128), 96) if quick else ((300, 512, 512), 256)
    np.save(folder / "organs.npy", np.stack(organs(shape, 10, (1, 2, -2))))
    near, far = organs(shape, 10, (0, 0, 0)), organs(shape, 10, (shape[0] // 8, shape[1] // 8, shape[2] // 16), seed=1)
    np.save(folder / "distant.npy", np.stack([near[0], far[1]]))
    np.save(folder / "lesions.npy", np.stack(lesions(size, 3, 15 if quick else 60)))


def work(name: str, inputs: Path) -> None:
    """A contestant's process: warm up on a small corner, then one run for each line of standard input."""
    import contestants

    function = getattr(contestants, name)
    reference, prediction = np.load(inputs)
    labels = [label for label in np.unique(reference).tolist() if label]
    warm = np.zeros((2, 130, 130, 130), np.uint8)
    for label in labels:
        warm[:, 20 : 20 + 8 * label, 20:60, 20:60][warm[:, 20 : 20 + 8 * label, 20:60, 20:60] == 0] = label
    function(*warm, labels)
    serve(lambda: function(reference, prediction, labels))


def apart(_: Task, ours: dict[str, float], theirs: dict[str, float]) -> float:
    """The largest difference of a metric."""
    return float(np.nanmax([abs(value - theirs[key]) for key, value in ours.items()]))


if __name__ == "__main__":
    sys.exit(run_tasks(__doc__, __file__, TASKS, make_inputs, work, apart, LIBRARIES))
