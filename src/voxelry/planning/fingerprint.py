"""The fingerprint of a dataset: shapes, spacings, orientations and grey values of its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.geometry import Geometry
from voxelry.core.label_sequence import LabelSequence
from voxelry.core.labels import LabelTable
from voxelry.core.plan import ChannelStatistics, Fingerprint
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ManifestError
from voxelry.metrics.object_sizes import ObjectSizes, object_sizes, summarise
from voxelry.planning.sequence_survey import SequenceSurvey
from voxelry.preparation.preparation import content_box, reordering

SAMPLES = 100_000_000
"""Largest number of labelled voxels whose grey values are kept, of all cases together."""

SAMPLES_PER_CASE = 20_000
MEDIAN_SAMPLES = 200_000
CANONICAL = "RAS"

Loaded = tuple[Volume, LabelMap | None]


def make_fingerprint(
    cases: Sequence[Callable[[], Loaded]],
    channels: tuple[str, ...],
    modality: str,
    table: LabelTable,
    progress: ProgressCallback = no_progress,
    sequences: Sequence[LabelSequence] = (),
) -> Fingerprint:
    """Measure every case once, holding one case in memory at a time.

    Grey-value statistics are taken over labelled voxels (all voxels of a case without labels), at most `SAMPLES_PER_CASE`
    of each case and `SAMPLES` of all, drawn with a fixed seed.

    Args:
        cases: functions that load a case's image and labels on one grid.
        channels: names of the channels.
        modality: DICOM's term.
        table: the labels.
        progress: called as cases are looked at.
        sequences: rows of labels to measure.

    Returns:
        The fingerprint, axes after orientation to RAS.

    Raises:
        ManifestError: no cases, or pictures and volumes mixed.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, Label, LabelTable, Volume
        >>> table = LabelTable(labels=(Label(value=1, name="blob"),))
        >>> grey = np.random.default_rng(0).normal(100, 20, (1, 24, 24, 16)).astype(np.float32)
        >>> scan = Volume(grey, Geometry.from_spacing((24, 24, 16), (1.0, 1.0, 1.0)), modality="MR")
        >>> fingerprint = make_fingerprint([lambda: (scan, None)], ("T1",), "MR", table)
        >>> fingerprint.shapes[1], fingerprint.spacing
        ((24, 24, 16), (1.0, 1.0, 1.0))
    """
    random = np.random.default_rng(0)
    grids: list[tuple[tuple[int, ...], tuple[float, ...] | None]] = []
    orientations: Counter[str] = Counter()
    samples: list[NDArray[np.float32]] = []
    label_voxels: Counter[str] = Counter()
    boxes: list[tuple[int, ...]] = []
    medians: list[tuple[float, ...]] = []
    tilts: list[float] = []
    survey = SequenceSurvey(sequences)
    objects: list[dict[str, ObjectSizes]] = []
    limit = min(SAMPLES_PER_CASE, max(1, SAMPLES // max(1, len(cases))))
    for number, load in enumerate(cases, start=1):
        volume, labels = load()
        reindex = reordering(volume.geometry, CANONICAL)
        geometry = volume.geometry.reindexed(reindex)
        grids.append((geometry.shape, geometry.spacing))
        orientations[volume.geometry.orientation or "picture"] += 1
        samples.append(_sample(volume, labels, limit, random))
        medians.append(grey_medians(volume))
        tilts.append(tilt(volume.geometry))
        extent = content_box(volume.array)[1]
        boxes.append(tuple(extent[axis] for axis in reindex.order))
        if labels is not None:
            survey.add(labels)
            objects.append(object_sizes(labels))
            for label in table.labels:
                label_voxels[label.name] += int(np.count_nonzero(labels.mask(label.name)))
        progress("looking at cases", number, len(cases))
    if not grids:
        raise ManifestError("no cases to train on", remedy="Check the manifest's cases and their splits.")
    if len({len(shape) for shape, _ in grids}) != 1:
        raise ManifestError("the dataset holds both pictures (2D) and volumes (3D)", remedy="Split it into two manifests.")
    shapes, contents = np.array([shape for shape, _ in grids]), np.array(boxes)
    sizes = [spacing for _, spacing in grids if spacing is not None]
    spacings = np.array(sizes) if len(sizes) == len(grids) else None
    extents = None if spacings is None else shapes * spacings
    return Fingerprint(
        cases=len(grids),
        modality=modality,
        dimensions=2 if shapes.shape[1] == 2 else 3,
        channels=channels,
        shapes=(_whole(shapes.min(0)), _whole(np.median(shapes, 0)), _whole(shapes.max(0))),
        spacing=None if spacings is None else _real(np.median(spacings, 0)),
        spacing_range=None if spacings is None else (_real(spacings.min(0)), _real(spacings.max(0))),
        orientations=dict(orientations),
        statistics=_statistics(np.concatenate(samples, axis=1)),
        voxels=int(shapes.prod(1).sum()),
        label_voxels={label.name: label_voxels[label.name] for label in table.labels},
        content=round(float(np.median(contents.prod(1) / shapes.prod(1))), 6),
        extent_range=None if extents is None else (_real(extents.min(0)), _real(extents.max(0))),
        grey_range=tuple((min(values), max(values)) for values in zip(*medians, strict=True)),
        tilt=max(tilts),
        spacing_fine=None if spacings is None else _real(np.percentile(spacings, 10, axis=0)),
        content_shape=_real(np.median(contents, 0)),
        objects=summarise(objects) if any(objects) else None,
        objects_by_label={name: summarise(objects, name) for name in _things(objects, table)},
        content_extent=None if spacings is None else _middle(contents * spacings),
        sequences=survey.result(),
    )


def _things(objects: Sequence[Mapping[str, ObjectSizes]], table: LabelTable) -> list[str]:
    """The names of the labels whose objects are told apart, in the order of the table."""
    return [name for name in table.names if any(name in case for case in objects)]


def grey_medians(volume: Volume) -> tuple[float, ...]:
    """Median grey value of each channel over (about `MEDIAN_SAMPLES` of) its voxels other than 0; 0 where there are none."""
    stride = max(1, round((volume.array[0].size / MEDIAN_SAMPLES) ** (1 / volume.geometry.ndim)))
    thinned = volume.array[(slice(None), *(slice(None, None, min(stride, n)) for n in volume.geometry.shape))]
    values = [channel[channel != 0] for channel in thinned]
    return tuple(float(np.median(channel)) if len(channel) else 0.0 for channel in values)


def tilt(geometry: Geometry) -> float:
    """The largest angle in degrees between an axis of a grid and the patient axis nearest to it; 0 for pictures."""
    if geometry.direction is None:
        return 0.0
    return round(float(np.degrees(np.arccos(np.clip(np.abs(geometry.direction).max(axis=0).min(), 0, 1)))), 3)


def _sample(volume: Volume, labels: LabelMap | None, limit: int, random: np.random.Generator) -> NDArray[np.float32]:
    """``(C, n)`` grey values of at most `limit` labelled voxels."""
    flat = volume.array.reshape(volume.channels, -1)
    inside = np.arange(flat.shape[1])
    if labels is not None:
        unlabelled = [0] if labels.table.ignore is None else [0, labels.table.ignore]
        labelled = np.flatnonzero(~np.isin(labels.layers, unlabelled).all(axis=0))
        inside = labelled if len(labelled) else inside
    sample = inside if len(inside) <= limit else random.choice(inside, limit, replace=False)
    return flat[:, sample].astype(np.float32)


def _statistics(samples: NDArray[np.float32]) -> tuple[ChannelStatistics, ...]:
    low, high = np.percentile(samples, (0.5, 99.5), axis=1)
    return tuple(
        ChannelStatistics(mean=float(values.mean(dtype=np.float64)), std=float(values.std(dtype=np.float64)), p005=p, p995=q)
        for values, p, q in zip(samples, low.tolist(), high.tolist(), strict=True)
    )


def _whole(values: NDArray[np.floating] | NDArray[np.integer]) -> tuple[int, ...]:
    return tuple(round(float(value)) for value in values)


def _real(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)


def _middle(values: NDArray[np.floating]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The two middle values of each column; the same value twice where the number of rows is odd."""
    ordered = np.sort(values, axis=0)
    return _real(ordered[(len(values) - 1) // 2]), _real(ordered[len(values) // 2])
