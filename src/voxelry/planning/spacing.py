"""Voxel sizes: the target spacing of a dataset, its coarse axes, and the median case's shape at that spacing.

nnU-Net's rules (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

from collections.abc import Sequence

from voxelry.core.plan import Fingerprint

ANISOTROPY = 3.0
"""An axis whose voxels are more than this many times longer is coarse."""

Spacing = tuple[float | None, ...]
"""Target mm along each axis, None along an axis that stays as stored."""


def target_spacing(fingerprint: Fingerprint, reasons: list[str]) -> tuple[float, ...] | None:
    """The median spacing of the cases; along thick slices the 10th percentile, so that thin slices keep their resolution.

    Args:
        fingerprint: the dataset's.
        reasons: a sentence is added.

    Returns:
        mm along each axis; None for pictures, whose pixels are counted and not measured.
    """
    if fingerprint.dimensions == 2 or fingerprint.spacing is None or fingerprint.spacing_range is None:
        return None
    spacing = list(fingerprint.spacing)
    sizes = fingerprint.content_shape or fingerprint.shapes[1]
    thick = max(range(3), key=lambda axis: spacing[axis])
    across = max(spacing[axis] for axis in range(3) if axis != thick)
    fewest = min(sizes[axis] for axis in range(3) if axis != thick)
    if spacing[thick] > ANISOTROPY * across and sizes[thick] * ANISOTROPY < fewest:
        finest = (fingerprint.spacing_fine or fingerprint.spacing_range[0])[thick]
        spacing[thick] = max(across, finest)
        reasons.append(
            f"Slices lie {fingerprint.spacing[thick]:g} mm apart in the median case, more than {ANISOTROPY:g} times the"
            f" {across:g} mm of their pixels, and are few ({sizes[thick]:g}), so the target along axis {thick} is"
            f" {spacing[thick]:g} mm, the 10th percentile of the cases"
            + ("" if finest >= across else ", though no finer than the pixels")
            + f"; the target spacing is {by(spacing)} mm."
        )
    else:
        reasons.append(f"The target spacing {by(spacing)} mm is the median of the {fingerprint.cases} cases along each axis.")
    return tuple(spacing)


def coarse_axis(voxel: Sequence[float]) -> int | None:
    """The axis along which a voxel is more than `ANISOTROPY` times longer than along the finest; None without exactly one such.

    Args:
        voxel: mm along each axis.
    """
    longest = max(voxel)
    alone = sum(length == longest for length in voxel) == 1
    return list(voxel).index(longest) if alone and longest > ANISOTROPY * min(voxel) else None


def slice_axis(spacing: Sequence[float], codes: str) -> int:
    """The coarsest axis, across which slices lie; of equally coarse axes that from foot to head, or else the last.

    Args:
        spacing: mm along each axis.
        codes: axis codes of the orientation, as ``RAS``.
    """
    return max(range(3), key=lambda axis: (round(spacing[axis], 4), codes[axis] in "SI", axis))


def median_shape(fingerprint: Fingerprint, spacing: Spacing | None, long_side: int | None = None) -> tuple[float, ...]:
    """Voxels of the median case's content at a target spacing, along each axis; halves occur where cases are even in number.

    Args:
        fingerprint: the dataset's.
        spacing: the target, None for the stored voxels.
        long_side: pixels of a picture's longer edge.
    """
    shape = tuple(map(float, fingerprint.content_shape or fingerprint.shapes[1]))
    if long_side is not None:
        return tuple(float(max(1, round(n * long_side / max(shape)))) for n in shape)
    if spacing is None or fingerprint.spacing is None:
        return shape
    extents = fingerprint.content_extent or ((tuple(n * s for n, s in zip(shape, fingerprint.spacing, strict=True))),) * 2
    return tuple(
        n if target is None else max(1.0, (round(low / target) + round(high / target)) / 2)
        for n, target, low, high in zip(shape, spacing, *extents, strict=True)
    )


def by(values: Sequence[float | None]) -> str:
    """Numbers as text: ``40 x 56 x 40``."""
    return " x ".join("(as stored)" if value is None else f"{round(value, 4):g}" for value in values)
