"""Setup of a run: labelled cases, their fingerprint, a plan for each configuration, and the cases prepared by a plan."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from voxelry.base.device import choose_device
from voxelry.base.listing import counted, shown
from voxelry.base.progress import ProgressCallback
from voxelry.core.labels import LabelTable
from voxelry.core.mirror_twins import has_side, without_twin
from voxelry.core.plan import Configuration, Fingerprint, Plan, Region
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.cases import Case
from voxelry.datasets.duplicates import refuse_shared_files
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest
from voxelry.errors import ConfigError, ManifestError
from voxelry.networks.classes import make_regions, mirror_classes
from voxelry.networks.weights import load_models
from voxelry.planning.fingerprint import make_fingerprint
from voxelry.planning.planner import configurations, make_plan
from voxelry.preparation.cache import CachedCase, cached_cases
from voxelry.preparation.dominant_value import dominant_value
from voxelry.recipes.recipe import Config
from voxelry.recipes.settings import PlanSettings
from voxelry.training.asked_settings import refuse_other_network, refuse_unmet
from voxelry.training.loss import make_loss
from voxelry.training.options import RunOptions

log = logging.getLogger(__name__)

CONFIGURATIONS: tuple[Configuration, ...] = ("2d", "3d", "3d_lowres", "3d_cascade")
"""In the order of training: a cascade's first stage before its second."""

LabelVolumes = dict[str, dict[str, float]]
"""Case id -> label name -> its volume in mm^3 (mm^2 in pictures; voxels where a voxel's size is not known)."""


def labelled_cases(manifest: Manifest, *splits: str) -> list[Case]:
    """The cases of some splits that have labels.

    Raises:
        ManifestError: there are none.
    """
    cases = [case for split in splits for case in manifest.split(split) if case.has_labels]
    if not cases:
        named = " or ".join(f"'{split}'" for split in splits)
        there = f"it has {len(manifest.cases)} ({manifest.counts})" if manifest.cases else "it lists no cases at all"
        raise ManifestError(
            f"{manifest.path}: no labelled cases in split {named}; {there}", remedy="Check the manifest's cases and splits."
        )
    return cases


def dataset_fingerprint(
    manifest: Manifest, cases: Sequence[Case], progress: ProgressCallback, volumes: LabelVolumes | None = None
) -> Fingerprint:
    """The fingerprint of some cases of a manifest.

    Warnings name what of the set cannot teach: labels that no case has, masks without a labelled voxel, files beside the cases.

    Args:
        manifest: the dataset.
        cases: cases to measure.
        progress: called as cases are looked at.
        volumes: filled with the volume of each label in each case, where it is given.

    Raises:
        ManifestError: no case has a labelled voxel, or every image is blank.
        SplitLeakError: two cases on two sides of the split are the same image.
    """
    refuse_shared_files(manifest.cases, str(manifest.path))
    for remark in manifest.remarks:
        log.warning("%s: %s", manifest.path, remark)
    volumes, blank = {} if volumes is None else volumes, set[str]()
    fingerprint = make_fingerprint(
        [partial(_read, case, manifest, volumes, blank) for case in cases],
        manifest.card.channels,
        manifest.card.modality,
        manifest.card.table,
        progress,
        manifest.card.sequences,
    )
    if len(blank) == len(cases):
        raise ManifestError(
            f"{manifest.path}: each of the {len(cases)} images holds one grey value alone, from which nothing can be learnt",
            remedy="Check the image files, and what wrote them.",
        )
    _check_labels(manifest, len(cases), fingerprint, volumes)
    return fingerprint


def _check_labels(manifest: Manifest, cases: int, fingerprint: Fingerprint, volumes: LabelVolumes) -> None:
    """Refuse cases without a labelled voxel, and warn of labels and masks of which nothing can be learnt."""
    absent = [name for name, count in fingerprint.label_voxels.items() if not count]
    if len(absent) == len(fingerprint.label_voxels):
        total = counted(cases, "training mask", "training masks")
        raise ManifestError(
            f"{manifest.path}: nothing to learn: none of {total} has a labelled voxel",
            remedy="Check the masks, and the values of the card's labels.",
        )
    if absent:
        total = counted(cases, "training case", "training cases")
        log.warning(
            "%s: in none of %s, so it cannot be learnt: %s", manifest.path, total, shown([f"'{name}'" for name in absent])
        )
    things = [name for name, objects in fingerprint.objects_by_label.items() if not objects.total and name not in absent]
    if things:
        log.warning(
            "%s: voxels but no object in any training case, so its objects cannot be learnt: %s; give its voxels ids, or make it "
            "`kind: stuff`",
            manifest.path,
            shown([f"'{name}'" for name in things]),
        )
    empty = [id for id, by_label in volumes.items() if not any(by_label.values())]
    if empty:
        log.warning("%s: %d of %d training masks hold no labelled voxel: %s", manifest.path, len(empty), cases, shown(empty))


def _read(case: Case, manifest: Manifest, volumes: LabelVolumes, blank: set[str]) -> tuple[Volume, LabelMap | None]:
    """A case; its volumes are noted, and whether its image is blank."""
    volume, labels = load_case(case, manifest)
    uniform = [channel for channel in volume.array if dominant_value(channel)[1] == 1]
    if len(uniform) == volume.channels:
        blank.add(case.id)
    if uniform:
        log.warning("case '%s': %d of %d channels hold one grey value alone", case.id, len(uniform), volume.channels)
    if labels is not None:
        volumes[case.id] = label_volumes(labels)
    return volume, labels


def label_volumes(labels: LabelMap) -> dict[str, float]:
    """The volume of each label of a map in mm^3 (mm^2, or voxels where their size is not known)."""
    size = labels.geometry.voxel_volume or 1.0
    counts = [np.bincount(layer.ravel()) for layer in labels.layers]
    return {
        label.name: float(counts[label.layer][label.value] * size) if label.value < len(counts[label.layer]) else 0.0
        for label in labels.table.labels
    }


def check_sides(plan: Plan, config: Config, manifest: Manifest) -> None:
    """Refuse flips that would swap left and right unnoticed.

    Raises:
        ConfigError: a flip from side to side while labels that name a side have no mirror twin; volumes are flipped but not
            oriented, while labels have a side; a region whose mirror image, which averaging over flips needs, is no region.
    """
    labels = manifest.card.table.labels
    named = config.augment.flip_axes if isinstance(config.augment.flip_axes, tuple) else ()
    flips = {"flips": (*config.flips, *plan.flips), "augment.flip_axes": named}
    for key, axes in flips.items():
        if axes and plan.dimensions == 3 and plan.orientation is None and any(map(has_side, labels)):
            raise ConfigError(
                "plan.orientation is 'stored' and labels have a side: a flip could not tell left from right",
                remedy=f"Set plan.orientation to RAS, or leave {key} out.",
            )
        alone = without_twin(labels)
        if plan.side_axis in axes and alone:
            raise ConfigError(
                f"{key} mirrors axis {plan.side_axis}, from one side of the body to the other, but labels that name a side have "
                f"no mirror twin: {shown(alone)}",
                remedy="Give each its twin as 'mirror' in the card (its own name where it has none), or leave this axis out.",
            )
    if plan.side_axis in plan.flips:
        mirror_classes(plan, manifest.card.table)


def make_plans(options: RunOptions, fingerprint: Fingerprint) -> dict[Configuration, Plan]:
    """The plan of each configuration that a recipe asks for, a cascade's first stage before its second.

    Args:
        options: options of the run; a plan among them takes the place of all others.
        fingerprint: fingerprint of the dataset.

    Raises:
        ConfigError: a setting that does not apply to the data; flips that could not tell left from right; several configurations
            without folds, or beside a given plan; class weights for an unknown class.
        ModelError: the model to start from cannot be read.
    """
    config, manifest = options.config, options.manifest
    if config.configurations and not config.folds:
        raise ConfigError("'configurations' are compared by cross-validation", remedy="Give 'folds' too, as 5 (--folds 5).")
    device = choose_device(config.device).type
    start = None if config.initial is None else load_models(config.initial, config.plan.network)[0]
    if start is not None and start.plan.dimensions != manifest.card.dimensions:
        raise ConfigError(
            f"{config.initial}: a model of {start.plan.dimensions}D images, the data are {manifest.card.dimensions}D",
            remedy="Start from another model.",
        )
    if start is not None:
        refuse_other_network(config.plan.network, start.plan, str(config.initial))
    if options.plan is not None:
        refuse_unmet(options.plan, config, "the plan (--plan)")
        plans = [_checked_plan(options.plan, config, manifest)]
    elif start is not None and config.plan in (PlanSettings(), PlanSettings(network=config.plan.network)):
        plans = [_continued_plan(start.plan, config, manifest, fingerprint, device)]
    else:
        regions = make_regions(config.loss.regions, manifest.card.table)
        dataset_fields = {"regions": regions, "reference_channel": manifest.card.reference_channel}
        plans = [
            make_plan(fingerprint, config.plan.model_copy(update={"configuration": name}), device, config.overlap, config.flips)
            for name in _configuration_names(config, fingerprint, device, manifest.card.table.layers > 1)
        ]
        plans = [plan.model_copy(update=dataset_fields) for plan in plans]
    if isinstance(config.configurations, tuple) and set(config.configurations) - {plan.configuration for plan in plans}:
        raise ConfigError(
            f"'configurations' asks for {', '.join(config.configurations)}, but one plan of '{plans[0].configuration}' is given",
            remedy="Leave out 'configurations', or the plan (--plan, or that of the model to start from).",
        )
    if config.folds and [plan.configuration for plan in plans] == ["3d_cascade"]:
        raise ConfigError(
            "the only plan given is that of a cascade's second stage, and there is none for its first",
            remedy="Leave the plan out, and set 'configurations' to [3d_lowres, 3d_cascade].",
        )
    _refuse_on_layers(plans, manifest.card.table)
    for plan in plans:
        check_sides(plan, config, manifest)
        make_loss(config.loss, plan, manifest.card.table)
    return {plan.configuration: plan for plan in plans}


def _refuse_on_layers(plans: Sequence[Plan], table: LabelTable) -> None:
    """Refuse what labels that overlap cannot have.

    Raises:
        ConfigError: a cascade, whose second stage takes one label a voxel from the first; an instance head for objects on several
            layers, of which it marks one a voxel.
    """
    if table.layers > 1 and any(plan.configuration == "3d_cascade" for plan in plans):
        raise ConfigError(
            f"labels lie on {table.layers} layers, and a cascade's second stage takes one label a voxel",
            remedy="Set 'configurations' without 3d_cascade.",
        )
    for plan in plans:
        things = plan.instances.labels if plan.instances is not None and plan.instances.head_channels else ()
        if len({table[name].layer for name in things}) > 1:
            raise ConfigError(
                f"the things {', '.join(things)} lie on several layers, and an instance head marks one object a voxel",
                remedy="Use the decoder 'components', or put things on one layer of the card.",
            )


def _configuration_names(config: Config, fingerprint: Fingerprint, device: str, layered: bool) -> list[Configuration | None]:
    """The configurations to plan, without a cascade of labels on several layers; None leaves the choice to the planner."""
    wanted = config.configurations or (config.plan.configuration,)
    names = set(configurations(fingerprint, config.plan, device) if wanted == "auto" else wanted)
    if wanted == "auto" and layered:
        names.discard("3d_cascade")
    if "3d_cascade" in names and config.folds:
        names.add("3d_lowres")
    return [None] if names == {None} else [name for name in CONFIGURATIONS if name in names]


def _continued_plan(old: Plan, config: Config, manifest: Manifest, fingerprint: Fingerprint, device: str) -> Plan:
    """The plan of the model to start from, for these data: with another network or spacing its weights would be useless."""
    assert config.initial is not None
    new = make_plan(fingerprint, PlanSettings(), device, config.overlap, config.flips)
    keys = {"channels", "sequences", "overlap", "flips"} | (set() if old.channels == new.channels else {"normalisation"})
    changes: dict[str, object] = {key: getattr(new, key) for key in keys}
    changes["regions"] = make_regions(config.loss.regions, manifest.card.table)
    changes["reference_channel"] = manifest.card.reference_channel
    changes["instances"] = new.instances
    changes["reasons"] = (f"Plan: that of {Path(config.initial).name}, from whose weights training starts.", *old.reasons)
    return old.model_copy(update=changes)


def _checked_plan(plan: Plan, config: Config, manifest: Manifest) -> Plan:
    """A plan that was read, checked against these data; it takes the recipe's regions where it has none."""
    card = manifest.card
    if (plan.dimensions, plan.channels) != (card.dimensions, card.channels):
        raise ConfigError(
            f"the plan is for {plan.dimensions}D images with channels {', '.join(plan.channels)}; the data are "
            f"{card.dimensions}D with {', '.join(card.channels)}",
            remedy="Plan for these data: voxelry plan MANIFEST.",
        )
    unknown = [name for sequence in plan.sequences for name in sequence.labels if name not in card.table.names]
    if unknown:
        raise ConfigError(
            f"the plan has a row of labels that the data lack: {shown(unknown)}",
            remedy="Plan for these data: voxelry plan MANIFEST.",
        )
    regions = make_regions(config.loss.regions, card.table) or plan.regions
    if plan.regions and regions != plan.regions:
        raise ConfigError(
            f"the plan learns the regions {_region_names(plan.regions)}, the recipe's loss {_region_names(regions)}",
            remedy="Leave the regions out of one of the two.",
        )
    return plan.model_copy(update={"reference_channel": card.reference_channel, "regions": regions})


def _region_names(regions: Sequence[Region]) -> str:
    return ", ".join(f"{region.name} ({' + '.join(region.labels)})" for region in regions)


def prepare_cases(
    manifest: Manifest, plan: Plan, cases: Sequence[Case], cache: Path, progress: ProgressCallback
) -> list[CachedCase]:
    """Cases prepared by a plan, read from the cache or written into it."""
    if not cases:
        return []
    card = manifest.card
    return cached_cases(cases, plan, card.table, cache, lambda case: load_case(case, manifest), progress, card.instances)
