"""The claim: objects are decoded from an instance network's fields in under 5 s, five times as fast as by scikit-image.

    python benchmarks/instances.py [--quick] [--only decoding] [--json FILE]

decoding: 256 x 256 x 256 voxels of 500 ellipsoids with the distances of a network, from quantised distances to numbered objects:
smoothed, then persistent peaks, grown by watershed along the distance, 26 neighbours. touching: ellipsoids of which nearly all
hang together; apart: smaller ones, few of which do. Both peers are scikit-image, which is given the smoothed distances. `skimage`
finds seeds (h-maxima by its own reconstruction) and floods them in the same foreground; `watershed` is given the seeds too.
Each contestant runs in a process of its own on two cores, in turn. `apart` is the share of voxels where they differ: fronts that
meet at one level, which each breaks by its own rule. Memory is compared with what the engine counts for decoding. Exits with 1 if
a claim does not hold. Accuracy is measured by `instance_accuracy.py`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Task, compare, parser_of, print_rows, serve
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

LIBRARIES = ("numpy", "scipy", "numba", "scikit-image")
SECONDS = 5.0
DECODING_MB = 8 * 256**3 / 2**20
SAMPLED = 10_000
SMOOTHING, PEAK = 1.0, 10
"""Standard deviation in voxels, and levels by which a peak must stand above its saddle."""

PEER_RATIOS = {"decoding_skimage": 5.0, "decoding_watershed": 5.0}
TASKS = (
    Task("decoding, touching", "touching.npz", "decoding_voxelry", PEER_RATIOS, 0.03, DECODING_MB),
    Task("decoding, apart", "apart.npz", "decoding_voxelry", PEER_RATIOS, 0.03, DECODING_MB),
)

Job = Callable[[], Any]


def fields(size: int, count: int, radii: tuple[float, float]) -> tuple[Any, Any]:
    """Foreground and level 2..254 of ellipsoids that cover each other, as uint8."""
    rng, shape = np.random.default_rng(0), (size,) * 3
    distance = np.full(shape, -0.3, np.float32)
    for _ in range(count):
        middle, radius = rng.uniform(0, size, 3), rng.uniform(*radii, 3)
        box = tuple(slice(max(0, int(m - r)), int(m + r) + 2) for m, r in zip(middle, radius, strict=True))
        grid = np.ogrid[tuple(slice(b.start, min(b.stop, size)) for b in box)]
        depth = 1 - np.sqrt(sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, radius, strict=True)))
        np.maximum(distance[box], depth, out=distance[box])
    inside = distance > 0
    noisy = distance + rng.normal(scale=0.01, size=shape)
    return inside.astype(np.uint8), (np.clip(noisy, -1, 1) * 126 + 128).astype(np.uint8)


def smoothed_levels(level: Any) -> Any:
    """Levels as the decoder smooths them."""
    from voxelry.inference.smoothing_kernels import smooth, taps

    smoothed = level.astype(np.uint32)
    smooth(smoothed, [taps(SMOOTHING)] * 3)
    return smoothed.astype(np.uint8)


def seeds_of(inside: Any, smoothed: Any) -> Any:
    """The numbered h-maxima of smoothed levels within the foreground, by scikit-image."""
    around = np.ones((3, 3, 3))
    height = np.where(inside > 0, np.maximum(smoothed, 1), -1000).astype(np.float32)
    lowered = np.where(inside > 0, height - PEAK + 1, -1000).astype(np.float32)
    filled = reconstruction(lowered, height, footprint=around)
    peaks = local_maxima(np.pad(filled, 1, constant_values=-2000), footprint=around)[1:-1, 1:-1, 1:-1] & (inside > 0)
    return ndimage.label(peaks, around)[0]


def make_inputs(folder: Path, quick: bool) -> None:
    """The fields and seeds of both tasks, compressed."""
    size = 96 if quick else 256
    scale, count = size / 256, 60 if quick else 500
    for name, radii in {"touching": (10, 26), "apart": (6, 14)}.items():
        inside, level = fields(size, count, tuple(max(2, r * scale) for r in radii))
        smoothed = smoothed_levels(level)
        seeds = seeds_of(inside, smoothed)
        np.savez_compressed(folder / f"{name}.npz", inside=inside, level=level, smoothed=smoothed, seeds=seeds)


def decoding_voxelry(inputs: dict[str, Any]) -> Job:
    """The decoder, on copies of what the engine hands it."""
    from voxelry.inference.head_kernels import DISTANCE_UNIT
    from voxelry.inference.instance_decoder import InstanceDecoder

    ids, classes = np.empty(inputs["level"].shape, np.uint32), np.empty_like(inputs["inside"])

    def run() -> Any:
        ids[...], classes[...] = inputs["level"], inputs["inside"]  # the decoder writes in place
        InstanceDecoder(classes, ids, [1], PEAK / DISTANCE_UNIT, smoothing=[SMOOTHING] * 3).run()
        return ids

    run()
    return run


def decoding_skimage(inputs: dict[str, Any]) -> Job:
    """scikit-image's watershed from seeds that it finds."""
    flood = flooding(inputs)
    return lambda: flood(seeds_of(inputs["inside"], inputs["smoothed"]))


def decoding_watershed(inputs: dict[str, Any]) -> Job:
    """scikit-image's watershed from seeds that it is given."""
    flood = flooding(inputs)
    return lambda: flood(inputs["seeds"])


def flooding(inputs: dict[str, Any]) -> Callable[[Any], Any]:
    """scikit-image's watershed of seeds, its other inputs made ready."""
    around, inside, level = np.ones((3, 3, 3)), inputs["inside"] > 0, -inputs["smoothed"].astype(np.int16)
    return lambda seeds: watershed(level, seeds, mask=inside, connectivity=around)


def work(name: str, inputs: Path) -> None:
    """A contestant's process, on two cores: the number of objects, and the ids of sampled voxels."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # before any pool of threads is made
    arrays = dict(np.load(inputs))
    job, places = globals()[name](arrays), np.random.default_rng(3).integers(0, arrays["inside"].size, SAMPLED)

    def run() -> dict[str, float]:
        ids = job()
        return {"objects": float(ids.max())} | {
            str(n): value for n, value in enumerate(ids.ravel()[places].astype(float).tolist())
        }

    serve(run)


def apart(_: Task, ours: dict[str, float], theirs: dict[str, float]) -> float:
    """The share of sampled voxels outside the object that each of ours mostly is; 1 if the numbers of objects differ."""
    if ours["objects"] != theirs["objects"]:
        return 1.0
    pairs = np.array([[value, theirs[key]] for key, value in ours.items() if key != "objects"])
    both, counts = np.unique(pairs, axis=0, return_counts=True)
    most = [counts[both[:, 0] == number].max() for number in np.unique(both[:, 0])]
    return round(1 - sum(most) / len(pairs), 5)


def main() -> int:
    """Run the tasks and print the table."""
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--only", default="", help="tasks whose title holds this")
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], Path(options.worker[1]))
        return 0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder), options.quick)
        for task in TASKS:
            if options.only in task.title:
                rounds = 1 if options.quick else options.rounds
                rows += compare(task, __file__, Path(sys.executable), Path(folder) / task.inputs, rounds, apart)
    for row in rows:
        row["holds"] = row["holds"] and row["ours_s"] < SECONDS
    print_rows(rows, LIBRARIES)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if options.quick or all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
