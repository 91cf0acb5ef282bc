"""The claim: preparing scans and cleaning label maps agrees with the peers and is faster by the factors in `TASKS`.

    python benchmarks/preparation.py [--quick] [--only WORD] [--peers FOLDER] [--json FILE]

Images and labels are resampled from 300 x 512 x 512 to 300 x 273 x 273 voxels; components are kept and holes filled in
200 x 256 x 256; label files are 300 x 512 x 512. Every contestant runs in its own process on the same arrays, in turn (ours,
theirs, ours, theirs...); figures are ratios of medians. `apart` is the largest difference among 20,000 voxels: HU for images (far
from borders, where SimpleITK mirrors and others hold the edge), the share of voxels that differ for labels (nnU-Net's rule
is "at least one half", ours the largest share: they differ where three labels meet). Exits with 1 if a claim does not hold.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Task, run_tasks, serve

LIBRARIES = (
    "numpy",
    "scipy",
    "numba",
    "SimpleITK",
    "monai",
    "nnunetv2",
    "nibabel",
    "isal",
    "connected-components-3d",
    "fill-voids",
)
MARGIN = 14
SAMPLED = 20_000
SPACING = (1.0, 0.7, 0.7)

Arrays = dict[str, Any]
Job = Callable[[], Any]


TASKS = (
    Task("image, order 3", "scan.npz", "image_voxelry", {"image_nnunet": 20, "image_simpleitk": 15}, 0.05, 250),
    Task("labels, order 1", "scan.npz", "labels_voxelry", {"labels_nnunet": 100}, 1e-3, 150),
    Task("keep largest, 105 labels", "many.npz", "largest_voxelry", {"largest_monai": 100, "largest_nnunet": 100}, 0),
    Task("keep largest, 10 labels", "few.npz", "largest_voxelry", {"largest_monai": 15, "largest_nnunet": 15}, 0),
    Task("fill holes, 105 labels", "many.npz", "holes_voxelry", {"holes_scipy": 5}, 0),
    Task("write labels as nii.gz", "scan.npz", "write_voxelry", {"write_nibabel": 5}, 0),
)


def blobs(shape: tuple[int, ...], count: int, seed: int = 0) -> Any:
    """Hollow ellipsoids in a grid of cells, one for each label, and specks of each label far from it; uint8."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    across = int(np.ceil(count ** (1 / 3)))
    cell = np.array(shape) / across
    for label in range(1, count + 1):
        corner = np.array(np.unravel_index(label - 1, (across,) * 3)) * cell
        low, high = corner.astype(int), (corner + cell).astype(int)
        box = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        voxels = np.indices(box.shape).transpose(1, 2, 3, 0)
        distance = np.linalg.norm((voxels - cell / 2) / (cell * rng.uniform(0.3, 0.48, 3)), axis=-1)
        box[(distance < 1) & (distance > 0.15)] = label
        for _ in range(4):
            speck = [rng.integers(0, n - 3) for n in shape]
            labels[tuple(slice(first, first + 3) for first in speck)] = label
    return labels


def make_inputs(folder: Path, quick: bool) -> None:
    """Write each set of arrays as ``NAME.npz``."""
    rng = np.random.default_rng(0)
    shape, small = ((60, 128, 128), (80, 96, 96)) if quick else ((300, 512, 512), (200, 256, 256))
    labels = blobs(shape, 10)
    grey = np.array([-1000, *np.linspace(-80, 1200, 10)])[labels] + rng.normal(0, 25, shape)
    np.savez(folder / "scan.npz", image=grey.astype(np.int16), labels=labels)
    np.savez(folder / "many.npz", labels=blobs(small, 105, seed=1))
    np.savez(folder / "few.npz", labels=blobs(small, 10, seed=2))


def _target(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *(round(n * 0.5332) for n in shape[1:]))


def image_voxelry(inputs: Arrays) -> Job:
    """int16 in, float32 out."""
    from voxelry.preparation.resampling import resample_image

    return lambda: resample_image(inputs["image"][None], _target(inputs["image"].shape), 3)[0]


def image_nnunet(inputs: Arrays) -> Job:
    """Its default for images."""
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    image = inputs["image"][None].astype(np.float32)
    return lambda: resample_data_or_seg_to_shape(image, _target(image.shape[1:]), SPACING, SPACING, order=3)[0]


def image_simpleitk(inputs: Arrays) -> Job:
    """B-spline of order 3, clipped to the range of the input as the others do."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(inputs["image"])
    target = _target(inputs["image"].shape)[::-1]
    spacing = [n / m for n, m in zip(image.GetSize(), target, strict=True)]
    origin = [(step - 1) / 2 for step in spacing]
    low, high = int(inputs["image"].min()), int(inputs["image"].max())

    def run() -> Any:
        resampled = SimpleITK.Resample(
            image, target, SimpleITK.Transform(), SimpleITK.sitkBSpline, origin, spacing, image.GetDirection(), 0.0,
            SimpleITK.sitkFloat32,
        )  # fmt: skip
        return np.clip(SimpleITK.GetArrayFromImage(resampled), low, high)

    return run


def labels_voxelry(inputs: Arrays) -> Job:
    """int16 class indices."""
    from voxelry.preparation.resampling import resample_classes

    classes = inputs["labels"].astype(np.int16)
    return lambda: resample_classes(classes, _target(classes.shape))


def labels_nnunet(inputs: Arrays) -> Job:
    """Its default for segmentations."""
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    labels = inputs["labels"][None]
    return lambda: resample_data_or_seg_to_shape(labels, _target(labels.shape[1:]), SPACING, SPACING, is_seg=True, order=1)[0]


def _cleaned(inputs: Arrays, **rule: Any) -> Job:
    from voxelry.core.model import CleanUp
    from voxelry.inference.cleanup import clean_array

    rules = {int(value): CleanUp(label=str(value), **rule) for value in np.unique(inputs["labels"]) if value}

    def run() -> Any:
        labels = inputs["labels"].copy()
        clean_array(labels, rules, 1.0)
        return labels

    return run


def largest_voxelry(inputs: Arrays) -> Job:
    """All labels in one pass."""
    return _cleaned(inputs, keep_largest=True)


def largest_monai(inputs: Arrays) -> Job:
    """`KeepLargestConnectedComponent` on the label map."""
    import torch
    from monai.transforms import KeepLargestConnectedComponent

    keep = KeepLargestConnectedComponent(np.unique(inputs["labels"])[1:].tolist(), is_onehot=False)
    labels = torch.from_numpy(inputs["labels"])[None]
    return lambda: keep(labels)[0].numpy()


def largest_nnunet(inputs: Arrays) -> Job:
    """Its post-processing, label by label."""
    from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation as keep

    def run() -> Any:
        labels = inputs["labels"]
        for value in np.unique(labels)[1:].tolist():
            labels = keep(labels, value)
        return labels

    return run


def holes_voxelry(inputs: Arrays) -> Job:
    """Each label in its box."""
    return _cleaned(inputs, fill_holes=True)


def holes_scipy(inputs: Arrays) -> Job:
    """`binary_fill_holes` of each label; only background is filled."""
    from scipy.ndimage import binary_fill_holes

    def run() -> Any:
        labels = inputs["labels"].copy()
        for value in np.unique(labels)[1:]:
            labels[binary_fill_holes(labels == value) & (labels == 0)] = value
        return labels

    return run


def write_voxelry(inputs: Arrays) -> Job:
    """Ours: uint8, names inside."""
    from voxelry.core.geometry import Geometry
    from voxelry.core.labels import LabelTable
    from voxelry.core.volume import LabelMap
    from voxelry.formats.grids.nifti_write import write_nifti

    geometry = Geometry.from_spacing(inputs["labels"].shape, SPACING)
    labels = LabelMap.of(inputs["labels"], geometry, LabelTable.numbered(range(1, 11)))
    return _written(inputs, lambda file: write_nifti(labels, file))


def write_nibabel(inputs: Arrays) -> Job:
    """`nibabel.save` as it comes."""
    import nibabel

    image = nibabel.Nifti1Image(inputs["labels"], np.diag([*SPACING, 1.0]))
    return _written(inputs, lambda file: nibabel.save(image, file))


def _written(inputs: Arrays, write: Callable[[Path], object]) -> Job:
    """Writes a file; what it wrote is read back once, before time is taken."""
    import nibabel

    folder = Path(tempfile.mkdtemp())
    write(folder / "labels.nii.gz")
    if not np.array_equal(np.asarray(nibabel.load(folder / "labels.nii.gz").dataobj), inputs["labels"]):
        raise SystemExit("the file does not hold the labels")

    def run() -> Any:
        write(folder / "labels.nii.gz")
        return inputs["labels"]

    return run


def work(name: str, inputs: Path) -> None:
    """A contestant's process: warm up on a corner, then one run for each line of standard input."""
    prepare = globals()[name]
    arrays = dict(np.load(inputs))
    prepare({key: np.ascontiguousarray(array[:40, :100, :100]) for key, array in arrays.items()})()
    job = prepare(arrays)

    def run() -> dict[str, float]:
        result, rng = job(), np.random.default_rng(3)
        sampled = tuple(rng.integers(min(MARGIN, n // 4), n - min(MARGIN, n // 4), SAMPLED) for n in result.shape)
        return {str(number): value for number, value in enumerate(result[sampled].astype(float).tolist())}

    serve(run)


def apart(task: Task, ours: dict[str, float], theirs: dict[str, float]) -> float:
    """The largest difference of a sampled voxel of an image, else the share of voxels that differ."""
    gaps = np.abs([value - theirs[key] for key, value in ours.items()])
    return round(float(gaps.max() if task.title.startswith("image") else (gaps > 0).mean()), 6)


if __name__ == "__main__":
    sys.exit(run_tasks(__doc__, __file__, TASKS, make_inputs, work, apart, LIBRARIES))
