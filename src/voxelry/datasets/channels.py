"""Reads an image with a file per channel onto one grid."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Reindex
from voxelry.core.volume import Source, Volume
from voxelry.errors import GridMismatchError, UsageError
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.formats.reader import read_file

log = logging.getLogger(__name__)

_COLOURS, _AXES_OF_PICTURES = 3, 2
_LITTLE = 0.5
"""A warning is logged for a channel that covers less than this share of the reference's voxels."""


def read_channels(
    paths: Sequence[str | os.PathLike[str]],
    options: ReadOptions = PLAIN,
    reference: int | None = None,
    channels: int = 0,
    series: Sequence[str] = (),
) -> Volume:
    """Read an image that has a file (or folder) per channel.

    Channels whose axes are flipped or permuted against the reference are re-indexed onto it. Those on other grids are resampled
    onto it in world coordinates, if a reference is named; voxels outside a channel's grid get its lowest value.

    Args:
        paths: one per channel, in order. A single path is read as it is and may have several channels.
        options: for each file, as of `read`.
        reference: number (from 0) of the channel on whose grid the others are resampled; None resamples nothing.
        channels: number of channels that are expected; where it is that of colours, a grey picture is repeated in each.
        series: which series of each path is read, where that is not the same for all; empty for that of the options.

    Returns:
        A Volume ``(C, *spatial)`` on the reference's grid, or the first file's; its Source names all files, the reference's
        first, keeps the reference's series and instances, and says what was resampled.

    Raises:
        UsageError: no path, or one of several files with more than one channel.
        GridMismatchError: two files lie on different grids and no reference is named, do not overlap, or are of
            different frames of reference.
        ReadError: as `read`.

    Examples:
        >>> import numpy as np
        >>> from voxelry import Geometry, Volume, write
        >>> from voxelry.datasets import read_channels
        >>> grid = Geometry.from_spacing((6, 6, 4), (1, 1, 2))
        >>> files = [write(Volume(np.full((1, 6, 6, 4), k, np.int16), grid), f"mr_{k}.nii.gz") for k in range(2)]
        >>> read_channels(files).shape
        (2, 6, 6, 4)
    """
    if not paths:
        raise UsageError("no file to read", remedy="Name at least one.")
    chosen = [replace(options, series=name or options.series) for name in series or [""] * len(paths)]
    volumes = [read_file(Path(path), own) for path, own in zip(paths, chosen, strict=True)]
    if len(volumes) == 1:
        return in_colour(volumes[0], channels)
    target = volumes[reference or 0]
    for volume, path in zip(volumes, paths, strict=True):
        _check(target, volume, Path(path))
    on_grid = [_laid(target, volume, Path(path), reference is not None) for volume, path in zip(volumes, paths, strict=True)]
    modalities = {volume.modality for volume in volumes}
    return Volume(
        partial(_stacked, on_grid),
        target.geometry,
        channels=len(volumes),
        modality=target.modality if len(modalities) == 1 else "",
        source=_joined(target, on_grid, reference or 0),
        decoding=_decoding(on_grid),
    )


def in_colour(volume: Volume, channels: int) -> Volume:
    """A grey picture as one of three equal colours, where that many channels are expected; any other image as it is."""
    if channels != _COLOURS or volume.channels != 1 or volume.geometry.ndim != _AXES_OF_PICTURES:
        return volume
    remark = f"{Path(volume.source.name).name}: a grey picture among pictures in colour, repeated in the {_COLOURS} channels"
    source = replace(volume.source, remarks=(*volume.source.remarks, remark))
    return replace(volume, pixels=partial(_repeated, volume), channels=_COLOURS, source=source, outside=None)


def _repeated(volume: Volume) -> NDArray[Any]:
    return np.repeat(replace(volume).array, _COLOURS, axis=0)


def _check(target: Volume, volume: Volume, path: Path) -> None:
    """Refuse a file of several channels, and one whose positions are in other coordinates."""
    if volume.channels != 1:
        raise UsageError(
            f"{path}: has {volume.channels} channels; of several files each gives one", remedy="Split it, or read it alone."
        )
    frames = volume.source.frame_of_reference, target.source.frame_of_reference
    if all(frames) and frames[0] != frames[1]:
        raise GridMismatchError(
            f"{path}: its frame of reference ({frames[0]}) is not that of {target.source.name} ({frames[1]}), so their "
            "relative position is unknown",
            remedy="Register one to the other first, and give the result.",
        )


def _laid(target: Volume, volume: Volume, path: Path, may_resample: bool) -> Volume:
    """A channel on the target's grid."""
    change = volume.geometry.reindexing_to(target.geometry)
    if change is not None:
        return replace(volume, pixels=partial(_turned, volume, change), geometry=target.geometry, outside=None)
    problem = (
        f"{path}: its grid ({volume.geometry.describe()}) is not that of {target.source.name} ({target.geometry.describe()})"
    )
    if volume.geometry.affine is None or target.geometry.affine is None:
        raise GridMismatchError(problem, remedy="Resample one onto the other's grid first.")
    if not may_resample:
        raise GridMismatchError(
            problem, remedy="Name the channel that the others are to be resampled onto: the dataset card's `reference_channel`."
        )
    from voxelry.datasets.resample_to_grid import covered_share, resample_to_grid

    share = covered_share(volume.geometry, target.geometry)
    if share == 0:
        raise GridMismatchError(f"{problem}, and does not overlap it", remedy="Give the channels of one examination.")
    beyond = "" if share == 1 else "; beyond, it has its lowest value"
    remark = f"{path.name}: resampled onto the grid of {Path(target.source.name).name}, of which it holds {share:.1%}{beyond}"
    if share < _LITTLE:
        log.warning("%s", remark)
    resampled = resample_to_grid(volume, target.geometry)
    return replace(resampled, source=replace(resampled.source, remarks=(*resampled.source.remarks, remark)))


def _turned(volume: Volume, change: Reindex) -> NDArray[Any]:
    return change.apply(replace(volume).array)  # a copy, so that decoded channels are not kept beside the stack of them


def _stacked(volumes: Sequence[Volume]) -> NDArray[Any]:
    return np.concatenate([replace(volume).array for volume in volumes])


def _decoding(volumes: Sequence[Volume]) -> tuple[int, int]:
    """Bytes that `_stacked` takes, at the least and at the most: each channel, and the stack of them."""
    least, most = zip(*(volume.undecoded_bytes for volume in volumes), strict=True)
    return 2 * sum(least), 2 * sum(most)


def _joined(target: Volume, channels: Sequence[Volume], reference: int) -> Source:
    ordered = [channels[reference], *(volume for number, volume in enumerate(channels) if number != reference)]
    remarks = [remark for volume in channels for remark in volume.source.remarks]
    repairs = [repair for volume in channels for repair in volume.source.repairs]
    return Source(
        kind=target.source.kind,
        files=tuple(file for volume in ordered for file in volume.source.files),
        series_uid=target.source.series_uid,
        instances=target.source.instances,
        remarks=tuple(dict.fromkeys(remarks)),
        repairs=tuple(dict.fromkeys(repairs)),
        frame_of_reference=target.source.frame_of_reference,
    )
