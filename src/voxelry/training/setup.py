"""What every run starts from: labelled cases, what they look like, plans for them, and the cases as plans prepare them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from voxelry.base.device import choose_device
from voxelry.base.progress import ProgressCallback
from voxelry.core.plan import Configuration, Fingerprint, Plan, Region
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest
from voxelry.errors import ConfigError, ManifestError
from voxelry.networks.classes import make_regions, mirror_classes
from voxelry.networks.weights import load_models
from voxelry.planning.fingerprint import make_fingerprint
from voxelry.planning.planner import configurations, make_plan
from voxelry.preparation.cache import CachedCase, cached_cases
from voxelry.recipes.recipe import Config
from voxelry.recipes.settings import PlanSettings
from voxelry.training.loss import make_loss

CONFIGURATIONS: tuple[Configuration, ...] = ("2d", "3d", "3d_lowres", "3d_cascade")
"""In the order in which they are trained: a cascade's first stage before its second."""

Volumes = dict[str, dict[str, float]]
"""Case id -> label name -> mm^3 (mm^2 in pictures; voxels where a voxel's size is not known)."""


def labelled_cases(manifest: Manifest, *splits: str) -> list[Case]:
    """The cases of some splits that have labels.

    Raises:
        ManifestError: there are none.
    """
    cases = [case for split in splits for case in manifest.split(split) if case.has_labels]
    if not cases:
        named = " or ".join(f"'{split}'" for split in splits)
        raise ManifestError(
            f"{manifest.path}: no labelled cases in split {named}", remedy="Check the manifest's cases and splits."
        )
    return cases


def look_at(manifest: Manifest, cases: Sequence[Case], progress: ProgressCallback, volumes: Volumes | None = None) -> Fingerprint:
    """The fingerprint of some cases of a manifest.

    Args:
        manifest: the dataset.
        cases: to look at.
        progress: called as cases are looked at.
        volumes: filled with how much of each label each case holds, if given.
    """
    return make_fingerprint(
        [partial(_read, case, manifest, {} if volumes is None else volumes) for case in cases],
        manifest.card.channels,
        manifest.card.modality,
        manifest.card.table,
        progress,
    )


def _read(case: Case, manifest: Manifest, volumes: Volumes) -> tuple[Volume, LabelMap | None]:
    volume, labels = load_case(case, manifest)
    if labels is not None:
        volumes[case.id] = label_volumes(labels)
    return volume, labels


def label_volumes(labels: LabelMap) -> dict[str, float]:
    """How much of each label of its table a map holds, in mm^3 (mm^2, or voxels where their size is not known)."""
    size = labels.geometry.voxel_volume or 1.0
    counts = [np.bincount(layer.ravel()) for layer in labels.layers]
    return {
        label.name: float(counts[label.layer][label.value] * size) if label.value < len(counts[label.layer]) else 0.0
        for label in labels.table.labels
    }


def check_sides(plan: Plan, config: Config, manifest: Manifest) -> None:
    """Refuse flips that would turn left into right unseen.

    Raises:
        ConfigError: volumes are flipped but not oriented, while labels have a side; a region that a prediction's flips
            would mirror into none.
    """
    if plan.side_axis in plan.flips:
        mirror_classes(plan, manifest.card.table)
    sided = any(label.mirror for label in manifest.card.table.labels)
    flipped = config.flips or (isinstance(config.augment.flip_axes, tuple) and config.augment.flip_axes)
    if sided and flipped and plan.dimensions == 3 and plan.orientation is None:
        raise ConfigError(
            "plan.orientation is 'stored' and labels have mirror twins: a flip could not tell left from right",
            remedy="Set plan.orientation to RAS, or leave flips out.",
        )


def make_plans(config: Config, manifest: Manifest, seen: Fingerprint, given: Plan | None = None) -> dict[Configuration, Plan]:
    """The plan of each configuration that a recipe asks for, a cascade's first stage before its second.

    Args:
        config: the recipe.
        manifest: the dataset.
        seen: what its cases look like.
        given: a plan made before, perhaps edited by the user, to take in place of all others.

    Raises:
        ConfigError: a setting that does not apply to the data; flips that could not tell left from right; several configurations
            and no folds, or beside one plan that is taken as it is; class weights of what is no class.
        ModelError: the model to start from cannot be read.
    """
    if config.configurations and not config.folds:
        raise ConfigError("'configurations' are compared by cross-validation", remedy="Give 'folds' too, as 5 (--folds 5).")
    device = choose_device(config.device).type
    start = None if config.initial is None else load_models(config.initial, config.plan.network)[0]
    if start is not None and start.plan.dimensions != manifest.card.dimensions:
        raise ConfigError(
            f"{config.initial}: a model of {start.plan.dimensions}D images, the data are {manifest.card.dimensions}D",
            remedy="Start from another model.",
        )
    if given is not None:
        plans = [_fitting(given, config, manifest)]
    elif start is not None and config.plan in (PlanSettings(), PlanSettings(network=config.plan.network)):
        plans = [_continued(start.plan, config, manifest, seen, device)]
    else:
        regions = make_regions(config.loss.regions, manifest.card.table)
        more = {"regions": regions, "reference_channel": manifest.card.reference_channel}
        plans = [
            make_plan(seen, config.plan.model_copy(update={"configuration": name}), device, config.overlap, config.flips)
            for name in _names(config, seen, device)
        ]
        plans = [plan.model_copy(update=more) for plan in plans]
    if isinstance(config.configurations, tuple) and set(config.configurations) - {plan.configuration for plan in plans}:
        raise ConfigError(
            f"'configurations' asks for {', '.join(config.configurations)}, but one plan of '{plans[0].configuration}' is given",
            remedy="Leave out 'configurations', or the plan (--plan, or that of the model to start from).",
        )
    if config.folds and [plan.configuration for plan in plans] == ["3d_cascade"]:
        raise ConfigError(
            "the one plan given is of a cascade's second stage, and none says what its first stage is",
            remedy="Leave the plan out, and set 'configurations' to [3d_lowres, 3d_cascade].",
        )
    for plan in plans:
        check_sides(plan, config, manifest)
        make_loss(config.loss, plan, manifest.card.table)
    return {plan.configuration: plan for plan in plans}


def _names(config: Config, seen: Fingerprint, device: str) -> list[Configuration | None]:
    """Which configurations; None where the planner says."""
    wanted = config.configurations or (config.plan.configuration,)
    names = set(configurations(seen, config.plan, device) if wanted == "auto" else wanted)
    if "3d_cascade" in names and config.folds:
        names.add("3d_lowres")
    return [None] if names == {None} else [name for name in CONFIGURATIONS if name in names]


def _continued(old: Plan, config: Config, manifest: Manifest, seen: Fingerprint, device: str) -> Plan:
    """The plan of the model to start from, for these data: another network or another spacing would make its weights useless."""
    assert config.initial is not None
    new = make_plan(seen, PlanSettings(), device, config.overlap, config.flips)
    own = {"channels", "overlap", "flips"} | (set() if old.channels == new.channels else {"normalisation"})
    changes: dict[str, object] = {key: getattr(new, key) for key in own}
    changes["regions"] = make_regions(config.loss.regions, manifest.card.table)
    changes["reference_channel"] = manifest.card.reference_channel
    changes["reasons"] = (f"Plan: that of {Path(config.initial).name}, from whose weights training starts.", *old.reasons)
    return old.model_copy(update=changes)


def _fitting(plan: Plan, config: Config, manifest: Manifest) -> Plan:
    """A plan that was read, if it is one for these data; it learns the recipe's regions where it names none."""
    card = manifest.card
    if (plan.dimensions, plan.channels) != (card.dimensions, card.channels):
        raise ConfigError(
            f"the plan is for {plan.dimensions}D images with channels {', '.join(plan.channels)}; the data are "
            f"{card.dimensions}D with {', '.join(card.channels)}",
            remedy="Plan for these data: voxelry plan MANIFEST.",
        )
    regions = make_regions(config.loss.regions, card.table) or plan.regions
    if plan.regions and regions != plan.regions:
        raise ConfigError(
            f"the plan learns the regions {_names_of(plan.regions)}, the recipe's loss {_names_of(regions)}",
            remedy="Leave the regions out of one of the two.",
        )
    return plan.model_copy(update={"reference_channel": card.reference_channel, "regions": regions})


def _names_of(regions: Sequence[Region]) -> str:
    return ", ".join(f"{region.name} ({' + '.join(region.labels)})" for region in regions)


def prepared(manifest: Manifest, plan: Plan, cases: Sequence[Case], cache: Path, progress: ProgressCallback) -> list[CachedCase]:
    """Cases as a plan prepares them, from the cache or into it."""
    if not cases:
        return []
    return cached_cases(
        cases,
        plan,
        manifest.card.table,
        cache,
        lambda case: load_case(case, manifest),
        progress,
    )
