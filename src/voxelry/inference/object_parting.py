"""Parts objects of a row that touch: where the label changes or at the necks of their shape, whichever gives usual volumes.

Necks are found by the cores of the distance to the surface, from which the pieces grow by watershed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from voxelry.core.geometry import Geometry
from voxelry.core.label_sequence import LabelSequence
from voxelry.inference.sequence_costs import JUNK

LARGE = 1.3
"""An object of this many times its usual volume may be several."""

SMALLEST_PIECE = 0.4
"""Smallest volume of a piece, as a share of the usual volume."""

SMALL_WEIGHT = 0.25
"""Weight of a piece that is too small against one that is too large: naming joins pieces, and divides none."""

_SMALLEST_WHOLE = 0.25
"""Where training showed no volumes, the smallest part that has this share of the largest is taken for one whole object."""

_DEPTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Depths of cores as shares of the largest distance to the surface."""

Mask = NDArray[np.bool_]
Classes = NDArray[np.uint16]
Ids = NDArray[np.uint32]
Pieces = NDArray[np.int32]
Values = NDArray[np.float64]


def part_objects(classes: Classes, sequence: LabelSequence, geometry: Geometry) -> Ids:
    """Number the connected parts of all labels together, those that are too large divided.

    Args:
        classes: ``(*spatial)`` labels by their places in the row, from 1; 0 for none of it.
        sequence: the row.
        geometry: the grid.

    Returns:
        ``(*spatial)`` ids from 1, 0 where `classes` is 0.
    """
    ids = np.asarray(_components(classes > 0), dtype=np.uint32)
    voxels = np.bincount(ids.ravel())[1:]
    usual = _usual_voxels(ids, classes, voxels, sequence, geometry.voxel_volume or 1.0)
    following = len(voxels) + 1
    for number, box in enumerate(find_objects(ids), start=1):
        mask = ids[box] == number
        if voxels[number - 1] < LARGE * usual[_majority(classes[box][mask], len(usual))]:
            continue
        pieces = _divided(mask, classes[box], usual, geometry)
        for piece in range(2, int(pieces.max()) + 1):
            ids[box][pieces == piece] = following
            following += 1
    return ids


def count_votes(ids: NDArray[np.integer[Any]], classes: Classes, objects: int, labels: int) -> NDArray[np.int64]:
    """Voxels of each object and label.

    Args:
        ids: ``(*spatial)`` objects from 1.
        classes: ``(*spatial)`` labels from 1.
        objects: number of objects.
        labels: number of labels.

    Returns:
        ``(objects, labels)``.
    """
    counts = np.zeros((objects + 1) * (labels + 1), dtype=np.int64)
    for plane, own in zip(ids, classes, strict=True):
        counts += np.bincount((plane.astype(np.int64) * (labels + 1) + own).ravel(), minlength=len(counts))
    return counts.reshape(objects + 1, labels + 1)[1:, 1:]


def _usual_voxels(ids: Ids, classes: Classes, voxels: NDArray[np.int64], sequence: LabelSequence, size: float) -> Values:
    """The usual number of voxels of each label: those of training, smaller where most objects of the scan are smaller."""
    labels = len(sequence.labels)
    known = [spread.mean / size for spread in sequence.volumes if spread is not None]
    if not known:
        return np.full(labels, float(voxels[voxels >= _SMALLEST_WHOLE * voxels.max()].min()))
    spreads = sequence.volumes
    usual = np.array([np.mean(known) if spread is None else spread.mean / size for spread in spreads])
    votes = count_votes(ids, classes, len(voxels), labels)
    ratios = voxels / usual[votes.argmax(axis=1)]
    return usual * min(1.0, float(np.median(ratios[voxels >= JUNK * voxels.max()])))


def _divided(mask: Mask, classes: Classes, usual: Values, geometry: Geometry) -> Pieces:
    """The division of one part whose pieces have the most usual volumes; 1 throughout where that is the whole."""
    best, least = mask.astype(np.int32), np.inf
    for pieces in _divisions(mask, classes, usual, geometry):
        votes = count_votes(pieces, classes, int(pieces.max()), len(usual))
        ratios = np.log(votes.sum(axis=1) / usual[votes.argmax(axis=1)])
        misfit = float(np.where(ratios > 0, ratios, -SMALL_WEIGHT * ratios).sum())
        if misfit < least:
            best, least = pieces, misfit
        if np.abs(ratios).max() < np.log(LARGE):
            break
    return best


def _divisions(mask: Mask, classes: Classes, usual: Values, geometry: Geometry) -> Iterator[Pieces]:
    whole = mask.astype(np.int32)
    yield whole
    depth = distance_transform_edt(np.pad(mask, 1), sampling=geometry.spacing)[(slice(1, -1),) * mask.ndim]
    by_label = _by_label(mask, classes, usual, depth)
    if by_label.max() > 1:
        yield by_label
        yield _by_shape(by_label, classes, usual, geometry)
    yield _by_shape(whole, classes, usual, geometry)


def _by_label(mask: Mask, classes: Classes, usual: Values, depth: Values) -> Pieces:
    """A piece for the largest connected part of each label, if it is large enough; the rest goes to its neighbours."""
    cores = np.zeros(mask.shape, dtype=np.int32)
    for number in np.unique(classes[mask]).tolist():
        components = _components(mask & (classes == number))
        sizes = np.bincount(components.ravel())[1:]
        for component in np.flatnonzero(sizes >= SMALLEST_PIECE * usual[number - 1]) + 1:
            cores[components == component] = cores.max() + 1
    return _grown(cores, depth, mask) if cores.max() > 1 else mask.astype(np.int32)


def _by_shape(pieces: Pieces, classes: Classes, usual: Values, geometry: Geometry) -> Pieces:
    """Pieces that are too large, divided at the necks of their shape."""
    result, following = pieces.copy(), int(pieces.max()) + 1
    for number, box in enumerate(find_objects(pieces), start=1):
        mask = pieces[box] == number
        expected = float(usual[_majority(classes[box][mask], len(usual))])
        if np.count_nonzero(mask) < LARGE * expected:
            continue
        divided = _at_necks(mask, expected, geometry)
        for piece in range(2, int(divided.max()) + 1):
            result[box][divided == piece] = following
            following += 1
    return result


def _at_necks(mask: Mask, usual: float, geometry: Geometry) -> Pieces:
    """The division at necks whose number of pieces fits the volume best."""
    depth = distance_transform_edt(np.pad(mask, 1), sampling=geometry.spacing)[(slice(1, -1),) * mask.ndim]
    wanted = max(2, round(np.count_nonzero(mask) / usual))
    best, difference = mask.astype(np.int32), wanted
    for share in _DEPTHS:
        cores = _components(depth > share * depth.max())
        if cores.max() < 2 or difference == 0:
            continue
        pieces = _grown(cores, depth, mask)
        voxels = np.bincount(pieces.ravel())
        large = np.flatnonzero(voxels[1:] >= SMALLEST_PIECE * usual) + 1
        if len(large) > 1 and abs(len(large) - wanted) < difference:
            lookup = np.zeros(len(voxels), dtype=np.int32)
            lookup[large] = np.arange(1, len(large) + 1)
            best, difference = _grown(lookup[pieces], depth, mask), abs(len(large) - wanted)
    return best


def _grown(cores: Pieces, depth: Values, mask: Mask) -> Pieces:
    from skimage.segmentation import watershed

    return np.asarray(watershed(-depth, cores, mask=mask), dtype=np.int32)


def _components(mask: Mask) -> Pieces:
    return np.asarray(cc3d.connected_components(mask, connectivity=8 if mask.ndim == 2 else 26), dtype=np.int32)


def _majority(classes: Classes, labels: int) -> int:
    return int(np.bincount(classes, minlength=labels + 1)[1:].argmax())
