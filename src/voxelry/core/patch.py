"""Patch geometry that training and inference share: the default overlap, and where a scan smaller than a patch lies in it."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_OVERLAP = 0.5
"""Share of a patch that it has in common with its neighbour at inference, 0..1; recipes, plans and callers may set another."""


def patch_margins(size: Sequence[int], patch: Sequence[int]) -> list[tuple[int, int]]:
    """Padding before and behind a scan that is smaller than a patch, along each axis; an odd voxel goes behind.

    Training and inference both place small scans by this: a network that was trained one voxel off loses Dice.

    Args:
        size: ``(*spatial)`` voxels of the scan.
        patch: ``(*spatial)`` voxels of the patch.

    Returns:
        Voxels ``(before, behind)`` of each axis, 0 where the scan is as large as the patch.
    """
    missing = [max(0, p - n) for n, p in zip(size, patch, strict=True)]
    return [(m // 2, m - m // 2) for m in missing]
