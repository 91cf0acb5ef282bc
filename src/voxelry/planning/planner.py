"""The planner: a plan from a fingerprint, by nnU-Net's rules (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

Its parts: `spacing` (the target), `topology` (the network's stages), `design` (its widths), `patch_budget` (what a GPU or a CPU
allows), `draft` (the configurations), `object_design` (how objects are told apart).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from voxelry.core.architectures import architecture
from voxelry.core.patch import DEFAULT_OVERLAP
from voxelry.core.plan import ChannelStatistics, Configuration, Fingerprint, Normalisation, Plan, axis_codes
from voxelry.errors import ConfigError
from voxelry.planning.channel_names import FIXED_SCALES, absolute_channels
from voxelry.planning.draft import Draft, Drafter, gpu_of
from voxelry.planning.fingerprint import CANONICAL
from voxelry.planning.object_design import plan_instances
from voxelry.planning.spacing import Spacing, by, coarse_axis
from voxelry.preparation.normalisation import ROUNDING
from voxelry.recipes.settings import PlanSettings

CONTENT = 0.75
"""Where cropping to the content leaves less than this share of a median case, grey values are normalised inside the content."""


def make_plan(
    fingerprint: Fingerprint,
    settings: PlanSettings,
    device: str = "cpu",
    overlap: float = DEFAULT_OVERLAP,
    flips: tuple[int, ...] = (),
) -> Plan:
    """Plan preparation, patch, batch and network for a dataset.

    Args:
        fingerprint: the dataset's, axes in RAS order.
        settings: the user's settings; its `memory` plans for such a GPU whatever the device.
        device: ``cpu`` or ``cuda``.
        overlap: overlap of neighbouring patches at inference.
        flips: axes mirrored at inference.

    Returns:
        A plan that says why.

    Raises:
        ConfigError: a setting has the wrong number of axes, does not apply to the data, or does not fit the device.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, Label, LabelTable, Volume
        >>> table = LabelTable(labels=(Label(value=1, name="blob"),))
        >>> grey = np.random.default_rng(0).normal(100, 20, (1, 24, 24, 16)).astype(np.float32)
        >>> scan = Volume(grey, Geometry.from_spacing((24, 24, 16), (1.0, 1.0, 1.0)), modality="MR")
        >>> from voxelry.planning import make_fingerprint
        >>> from voxelry.recipes import PlanSettings
        >>> fingerprint = make_fingerprint([lambda: (scan, None)], ("T1",), "MR", table)
        >>> plan = make_plan(fingerprint, PlanSettings(batch_size=2))
        >>> plan.configuration, plan.patch_size, plan.network.name
        ('3d', (24, 24, 16), 'dynunet')
    """
    _check(settings, fingerprint, flips)
    orientation = _orientation(fingerprint, settings)
    drafter = _drafter(fingerprint, settings, device, orientation)
    fingerprint = drafter.fingerprint
    draft = drafter.draft()
    draft = _with_fallback(draft, settings)
    topology = draft.fit.topology if draft.across is None else draft.fit.topology.across(draft.across)
    patch = list(draft.fit.patch)
    if draft.across is not None:
        patch.insert(draft.across, 1)
    network = draft.design.network(patch, topology)
    reasons = [*draft.reasons, *_patch_reasons(draft, tuple(patch), settings), *_network_reasons(draft, settings)]
    scale = 1.0 if draft.long_side is None else draft.long_side / max(fingerprint.shapes[1])
    instances = plan_instances(fingerprint, settings, draft.spacing, draft.across, scale, reasons)
    return Plan(
        dimensions=fingerprint.dimensions,
        channels=fingerprint.channels,
        configuration=draft.configuration,
        slice_axis=draft.across,
        orientation=orientation,
        spacing=draft.spacing,
        long_side=draft.long_side,
        coarse_axis=_coarse_axis(fingerprint, draft.spacing, reasons),
        normalisation=_normalisation(fingerprint, reasons),
        patch_size=tuple(patch),
        batch_size=settings.batch_size or draft.fit.batch,
        network=network,
        sequences=fingerprint.sequences,
        instances=instances,
        overlap=overlap,
        flips=flips,
        reasons=tuple(reasons),
    )


def configurations(
    fingerprint: Fingerprint, settings: PlanSettings | None = None, device: str = "cpu"
) -> tuple[Configuration, ...]:
    """The configurations that suit a dataset, the default of `make_plan` first.

    Pictures and single slices are ``2d`` alone; a low-resolution stage and the cascade after it exist where a patch at full
    resolution covers less than a quarter of the median case. A plan's reasons say which holds.

    Args:
        fingerprint: the dataset's.
        settings: the user's settings; its `configuration` is ignored.
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: as `make_plan`.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, Label, LabelTable, Volume
        >>> table = LabelTable(labels=(Label(value=1, name="blob"),))
        >>> grey = np.random.default_rng(0).normal(100, 20, (1, 24, 24, 16)).astype(np.float32)
        >>> scan = Volume(grey, Geometry.from_spacing((24, 24, 16), (1.0, 1.0, 1.0)), modality="MR")
        >>> from voxelry.planning import make_fingerprint
        >>> from voxelry.recipes import PlanSettings
        >>> fingerprint = make_fingerprint([lambda: (scan, None)], ("T1",), "MR", table)
        >>> configurations(fingerprint)
        ('3d', '2d')
    """
    free = (settings or PlanSettings()).model_copy(update={"configuration": None})
    _check(free, fingerprint, ())
    return tuple(_drafter(fingerprint, free, device, _orientation(fingerprint, free)).drafts())


def _with_fallback(draft: Draft, settings: PlanSettings) -> Draft:
    """The draft, its network replaced where the user named none and the default is not built with so few stages."""
    name, stages = draft.design.name, len(draft.fit.topology.strides)
    default = architecture(name)
    if settings.network is not None or stages >= default.fewest or default.fallback is None:
        return draft
    is_asked = settings.features is not None and len(settings.features) == stages
    cause = f"plan.features asks for {stages}" if is_asked else f"the patch allows {stages}"
    reason = f"The network is {default.fallback} in place of {name}, which has at least {default.fewest} stages, and {cause}."
    return replace(draft, design=replace(draft.design, name=default.fallback), reasons=(*draft.reasons, reason))


def _drafter(fingerprint: Fingerprint, settings: PlanSettings, device: str, orientation: str | None) -> Drafter:
    ordered, order = _ordered(fingerprint, orientation)
    return Drafter(ordered, settings, "".join("RAS"[axis] for axis in order), gpu_of(settings, device))


def _patch_reasons(draft: Draft, patch: tuple[int, ...], settings: PlanSettings) -> list[str]:
    median = f"the median case has {by(draft.median)}"
    if settings.patch_size is None:
        first = f"A patch has {by(patch)} voxels ({median}), which is {draft.fit.why_patch}"
    elif patch == settings.patch_size:
        first = f"A patch has {by(patch)} voxels, as the recipe asks ({median})"
    else:
        first = f"A patch has {by(patch)} voxels, widened from the recipe's {by(settings.patch_size)} ({median})"
    if settings.batch_size is not None:
        second = f"A step has {settings.batch_size} patches, as the recipe asks."
    else:
        second = f"A step has {draft.fit.batch} patches, since {draft.fit.why_batch}."
    return [f"{first}; its edges are multiples of {by(draft.fit.topology.divisor)}, the network's strides.", second]


def _network_reasons(draft: Draft, settings: PlanSettings) -> list[str]:
    topology, name = draft.fit.topology, draft.design.name
    stages = len(topology.strides)
    bottom = by([edge // d for edge, d in zip(draft.fit.patch, topology.divisor, strict=True)])
    widths = ", ".join(map(str, draft.design.widths(stages)))
    halvings = by([round(math.log2(d)) for d in topology.divisor])
    start = f"The {name} has {stages} stages of {widths} channels and halves axes {halvings} times, down to {bottom} voxels"
    if architecture(name).halves:
        return [f"{start}, the only strides that it has."]
    if settings.features and stages < len(settings.features):
        return [f"{start}, since the patch allows no more of the {len(settings.features)} stages of the recipe."]
    if settings.features:
        return [f"{start}; the channels are as the recipe asks."]
    if draft.design.most == stages:
        return [f"{start}, which is deep enough for a CPU."]
    return [f"{start}, since an axis is halved while 4 voxels remain and its voxels are less than twice as long as the shortest."]


def _coarse_axis(fingerprint: Fingerprint, spacing: Spacing | None, reasons: list[str]) -> int | None:
    """The coarse axis of the median case, or else of the target."""
    if fingerprint.dimensions == 2 or spacing is None:
        return None
    stored = fingerprint.spacing or (1.0,) * fingerprint.dimensions
    target = tuple(own if size is None else size for own, size in zip(stored, spacing, strict=True))
    for voxel in (stored, target):
        axis = coarse_axis(voxel)
        if axis is not None:
            reasons.append(
                f"Voxels are {by(voxel)} mm, so nothing is interpolated along axis {axis}; slices are resampled one by one."
            )
            return axis
    return None


def _orientation(fingerprint: Fingerprint, settings: PlanSettings) -> str | None:
    if fingerprint.dimensions == 2 or settings.orientation == "stored":
        return None
    try:
        return axis_codes(settings.orientation or CANONICAL)
    except ValueError as error:
        raise ConfigError(f"plan.orientation: {error}, or 'stored'") from error


def _ordered(fingerprint: Fingerprint, orientation: str | None) -> tuple[Fingerprint, tuple[int, ...]]:
    """The fingerprint with its axes in the plan's order instead of RAS, and that order."""
    if fingerprint.dimensions == 2:
        return fingerprint, (0, 1)
    orders = {_axis_order(codes) for codes in ([orientation] if orientation else fingerprint.orientations)}
    if len(orders) > 1:
        stored = ", ".join(sorted(fingerprint.orientations))
        raise ConfigError(
            f"plan.orientation is 'stored', but the cases' axes differ in order ({stored})", remedy="Set plan.orientation to RAS."
        )
    order = orders.pop()

    def moved(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if values is None else tuple(values[axis] for axis in order)

    rows = {name: moved(getattr(fingerprint, name)) for name in ("spacing", "spacing_fine", "content_shape")}
    tables = {name: getattr(fingerprint, name) for name in ("shapes", "spacing_range", "content_extent")}
    moved_tables = {name: None if table is None else tuple(map(moved, table)) for name, table in tables.items()}
    return fingerprint.model_copy(update=rows | moved_tables), order


def _axis_order(codes: str) -> tuple[int, ...]:
    return tuple(next(axis for axis, pair in enumerate(("RL", "AP", "SI")) if code in pair) for code in codes)


def _normalisation(fingerprint: Fingerprint, reasons: list[str]) -> tuple[Normalisation, ...]:
    """The scaling of each channel, by its own name and else by the modality of the set."""
    inside = fingerprint.content < CONTENT
    own = Normalisation(scheme="mask" if inside else "image")
    absolute = absolute_channels(fingerprint.channels, fingerprint.modality)
    fixed = [FIXED_SCALES.get(name.casefold()) for name in fingerprint.channels]
    flat = [is_absolute and _is_flat(fingerprint.statistics[n]) for n, is_absolute in enumerate(absolute)]
    if any(flat):
        value = fingerprint.statistics[flat.index(True)].p005
        reasons.append(f"All labelled voxels of CT have one grey value ({value:g}), so there is no range to clip to.")
        absolute = [is_absolute and not is_flat for is_absolute, is_flat in zip(absolute, flat, strict=True)]
    schemes = [_by_set(fingerprint.statistics[n]) if absolute[n] else fixed[n] or own for n in range(len(absolute))]

    def named(flags: Sequence[object]) -> str:
        names = [name for name, flag in zip(fingerprint.channels, flags, strict=True) if flag]
        return f" ({', '.join(names)})" if 0 < len(names) < len(fingerprint.channels) else ""

    relative = [scheme == own for scheme in schemes]
    if any(relative):
        where = f" inside its content, {fingerprint.content:.0%} of a median case" if inside else ""
        reasons.append(
            f"Grey values{named(relative)} have no absolute scale, so each image is brought to mean 0 and standard deviation 1"
            f"{where}."
        )
    if any(absolute):
        first = fingerprint.statistics[absolute.index(True)]
        reasons.append(
            f"Grey values of CT{named(absolute)} are absolute, so they are clipped (to {first.p005:g} .. {first.p995:g}) and"
            " scaled by the labelled voxels of the whole set."
        )
    if any(fixed):
        reasons.append(f"Grey values are scaled as the channels' names say{named(fixed)}.")
    return tuple(schemes)


def _by_set(values: ChannelStatistics) -> Normalisation:
    """Clipping and scaling by the labelled voxels of the set."""
    return Normalisation(scheme="global", low=values.p005, high=values.p995, mean=values.mean, std=values.std)


def _is_flat(values: ChannelStatistics) -> bool:
    """Nothing would be left of grey values that are clipped to the range of the labelled voxels."""
    return values.p995 - values.p005 <= ROUNDING * max(abs(values.p005), abs(values.p995))


def _check(settings: PlanSettings, fingerprint: Fingerprint, flips: tuple[int, ...]) -> None:
    dimensions = fingerprint.dimensions
    for key in ("spacing", "patch_size"):
        value = getattr(settings, key)
        if value is not None and len(value) != dimensions:
            raise ConfigError(f"plan.{key} is {list(value)}: {dimensions} numbers are needed for {dimensions}D data")
    if len(set(flips)) != len(flips) or not set(flips) <= set(range(dimensions)):
        raise ConfigError(f"flips is {list(flips)}: the data have axes 0..{dimensions - 1}", remedy="Name each at most once.")
    if settings.long_side and (dimensions == 3 or settings.spacing):
        other = "3D data" if dimensions == 3 else "plan.spacing"
        raise ConfigError(f"plan.long_side is {settings.long_side} beside {other}", remedy="Leave plan.long_side out.")
    if settings.spacing and fingerprint.spacing is None:
        raise ConfigError(
            f"plan.spacing is {list(settings.spacing)}, but some pictures do not state their pixel size",
            remedy="Leave plan.spacing out, or set plan.long_side.",
        )
