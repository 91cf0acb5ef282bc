"""Classes of a network: labels that exclude each other, labels on several layers, or regions of labels that may overlap.

With labels, class i + 1 is the i-th label, and the largest logit wins. With regions, class k is the k-th region, which contains
the voxels where its logit is above 0; a voxel gets the label of the last region that contains it. With labels on several layers
each label is a region of its own, those of one layer beside each other; on each layer a voxel gets the label of the largest logit
above 0, if there is one. In any case the network has as many classes as there are labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.core.label_combinations import LabelCombinations
from voxelry.core.labels import LabelTable
from voxelry.core.plan import Plan, Region
from voxelry.errors import ConfigError, nearest


def make_regions(regions: Mapping[str, Sequence[str]], table: LabelTable) -> tuple[Region, ...]:
    """The regions of a recipe, each with the label that it gives to its voxels.

    A voxel's label must follow from the regions that contain it: the last of them is the last region of exactly one label.

    Args:
        regions: name -> names of labels, from the whole to the parts.
        table: the labels.

    Returns:
        As many regions as labels: of labels on several layers one for each label, layer by layer; else none where `regions` is
        empty.

    Raises:
        ConfigError: an unknown label, a label that lies in no region, a region that is not the last one of exactly one label, or
            regions of labels on several layers.
    """
    if table.layers > 1 and regions:
        raise ConfigError(
            f"loss.regions names {', '.join(regions)}, but the labels lie on {table.layers} layers, so each is learnt by itself",
            remedy="Leave loss.regions out, or put all labels of the card on one layer.",
        )
    if table.layers > 1:
        ordered = sorted(table.labels, key=lambda label: label.layer)
        return tuple(Region(name=label.name, labels=(label.name,), label=label.name) for label in ordered)
    for name, labels in regions.items():
        for label in labels:
            if label not in table.names:
                raise ConfigError(f"loss.regions.{name} names '{label}', which is no label", remedy=nearest(label, table.names))
        if len(set(labels)) != len(labels) or not labels:
            raise ConfigError(f"loss.regions.{name} is {list(labels)}", remedy="Name one or more labels, each once.")
    last = {
        label: max((n for n, members in enumerate(regions.values()) if label in members), default=None) for label in table.names
    }
    outside = [label for label in table.names if regions and last[label] is None]
    if outside:
        raise ConfigError(
            f"label '{outside[0]}' lies in none of loss.regions ({', '.join(regions)})",
            remedy=f"Add it to a region, or give it one of its own: {outside[0]}: [{outside[0]}].",
        )
    return tuple(
        _region(n, name, regions[name], [label for label in table.names if last[label] == n]) for n, name in enumerate(regions)
    )


def _region(number: int, name: str, labels: Sequence[str], last_of: list[str]) -> Region:
    """A region that is the last of exactly one label."""
    if len(last_of) != 1:
        owners = f"of {' and '.join(last_of)}" if last_of else "of none of its labels"
        raise ConfigError(
            f"loss.regions.{name}, number {number + 1}, is the last region {owners}, so it decides no voxel's label",
            remedy="Write regions from the whole to its parts, one for each label: whole: [edema, core], core: [core].",
        )
    return Region(name=name, labels=tuple(labels), label=last_of[0])


def check_regions(plan: Plan, table: LabelTable) -> None:
    """Refuse a plan whose regions do not follow from its labels.

    Raises:
        ConfigError: regions other than `make_regions` makes; with labels on several layers, other than these.
    """
    asked = {} if table.layers > 1 else {region.name: region.labels for region in plan.regions}
    if plan.regions != make_regions(asked, table):
        known = ", ".join(f"{region.name} known by {region.label}" for region in plan.regions) or "none"
        layers = f" on {table.layers} layers" if table.layers > 1 else ""
        raise ConfigError(
            f"the plan's regions ({known}) do not follow from its labels{layers}, or from the recipe's regions",
            remedy="Plan again.",
        )


def layer_sizes(table: LabelTable) -> tuple[int, ...]:
    """How many classes of a network lie on each layer, in their order; empty where all labels lie on one layer."""
    return tuple(map(len, LabelCombinations(table).layers)) if table.layers > 1 else ()


def class_spans(classes: int, layers: Sequence[int] = ()) -> list[slice]:
    """The classes of a network that exclude each other, layer by layer, each after one more that stands for the background.

    Args:
        classes: K, the background first.
        layers: `layer_sizes`.
    """
    ends = np.cumsum([0, *layers])
    return [slice(int(a), int(b) + 1) for a, b in pairwise(ends)] or [slice(0, classes)]


def class_members(plan: Plan, table: LabelTable) -> dict[str, tuple[int, ...]]:
    """Members of each class of a network, without the background: name of the region or label -> class indices of labels.

    `voxelry.metrics.regions.count_regions` scores them from the counts of a confusion matrix of labels. With labels on several
    layers the members are combinations of labels (`voxelry.core.label_combinations`).

    Raises:
        ConfigError: a region of a label that the table does not know.
    """
    if table.layers > 1:
        containing = LabelCombinations(table).containing
        return {region.name: containing[_class_of(region.label, table)] for region in plan.regions}
    if not plan.regions:
        return {label: (number,) for number, label in enumerate(table.names, start=1)}
    return {region.name: tuple(_class_of(label, table) for label in region.labels) for region in plan.regions}


def label_classes(plan: Plan, table: LabelTable) -> NDArray[np.int64]:
    """``(K,)`` int64: the class index of the label that each class of the network gives, background first.

    Raises:
        ConfigError: a region of a label that the table does not know.
    """
    labels = [region.label for region in plan.regions] or table.names
    return np.array([0, *(_class_of(label, table) for label in labels)])


def _class_of(label: str, table: LabelTable) -> int:
    """The class index of a label that a plan names."""
    if label not in table.names:
        raise ConfigError(f"a region of the plan names '{label}', which is no label", remedy=nearest(label, table.names))
    return 1 + table.names.index(label)


def mirror_classes(plan: Plan, table: LabelTable) -> tuple[int, ...]:
    """The class of the network that each of its classes becomes when the body is mirrored left to right.

    Raises:
        ConfigError: a region whose labels' mirror twins make up no region.
    """
    if not plan.regions:
        return table.mirror_classes()
    numbers = {frozenset(region.labels): number for number, region in enumerate(plan.regions, start=1)}
    mirrored_regions = [0]
    for region in plan.regions:
        mirrored = frozenset(table[label].mirror or label for label in region.labels)
        if mirrored not in numbers:
            raise ConfigError(
                f"region '{region.name}' mirrored left to right is {sorted(mirrored)}, which is no region",
                remedy=f"Leave axis {plan.side_axis} out of flips, or give the other side a region too.",
            )
        mirrored_regions.append(numbers[mirrored])
    return tuple(mirrored_regions)


def winners(logits_BK: Tensor, regions: bool) -> Tensor:
    """The class of each voxel: that of the largest logit, or with regions the last whose logit is above 0.

    Args:
        logits_BK: ``(B, K, *spatial)``.
        regions: whether the classes are regions.

    Returns:
        ``(B, *spatial)`` int64 classes of the network (`label_classes` turns them into labels).
    """
    if not regions:
        return logits_BK.argmax(1)
    best = torch.zeros_like(logits_BK[:, 0], dtype=torch.int64)
    for number in range(1, logits_BK.shape[1]):
        best = torch.where(logits_BK[:, number] > 0, number, best)
    return best


def layer_winners(logits_BK: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """The class of each voxel on each layer: that of the largest logit above 0, else 0.

    Args:
        logits_BK: ``(B, K, *spatial)``.
        layers: `layer_sizes`.

    Returns:
        Of each layer ``(B, *spatial)`` int64 classes of the network.
    """
    planes = []
    for span in class_spans(logits_BK.shape[1], layers):
        values = torch.cat([torch.zeros_like(logits_BK[:, :1]), logits_BK[:, span][:, 1:]], 1)
        best = values.argmax(1)
        planes.append(torch.where(best > 0, best + span.start, 0))
    return planes
