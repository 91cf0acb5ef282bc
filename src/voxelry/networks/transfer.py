"""Fine-tuning: loads the weights of one network into another with other labels, channels or layers, where they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from voxelry.core.instance_plan import HEAD_CHANNELS
from voxelry.core.labels import LabelTable
from voxelry.core.plan import Plan
from voxelry.errors import ModelError
from voxelry.networks.build import build_body, head_channels
from voxelry.networks.network_spec import NetworkSpec
from voxelry.networks.wrapper import NetworkWrapper

_LABEL = "label: "
"""Prefix of a label whose first-stage mask is an input channel, so that no image channel has the same name."""

_HEAD = "head: "
"""Prefix of an output of the instance head, so that no label has the same name."""


@dataclass(frozen=True)
class NetworkEnds:
    """Names of the inputs and outputs of a network.

    Attributes:
        channels: names of the input channels.
        classes: names of the logits of its last layer.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]

    @staticmethod
    def of(plan: Plan, table: LabelTable) -> NetworkEnds:
        """The inputs and outputs of a plan's network: a cascade's labels are channels too, and regions have no background."""
        first_stage = table.names if plan.configuration == "3d_cascade" else ()
        classes = tuple(region.name for region in plan.regions) or ("background", *table.names)
        head = HEAD_CHANNELS[: head_channels(plan)]
        return NetworkEnds(
            (*plan.channels, *(_LABEL + name for name in first_stage)), (*classes, *(_HEAD + name for name in head))
        )


@dataclass(frozen=True)
class WeightTransfer:
    """Report of a transfer: which tensors were loaded, adapted or newly initialised.

    Attributes:
        loaded: taken as they are.
        adapted: taken in part: rows of labels, or columns of channels, that both networks have.
        fresh: keep their fresh values, since no tensor of their name and shape was given.
        unused: given, but not used.
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors taken over"]
        for what, names in (("adapted", self.adapted), ("newly initialised", self.fresh), ("not used", self.unused)):
            if names:
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        return "; ".join(parts)


def load_matching(
    network: nn.Module, plan: Plan, weights: Mapping[str, Tensor], old: NetworkEnds, new: NetworkEnds
) -> WeightTransfer:
    """Load every tensor that fits by name and shape, and the matching parts of first and last layers.

    A row of the last layer goes to the label of the same name, and a new label keeps its fresh weights. A channel takes the
    weights of the channel of the same name; a new channel takes their mean, and a first stage's labels start at 0, so that they
    do not change the network's output at first.

    Args:
        network: with fresh weights; changed in place.
        plan: plan that `network` was built from.
        weights: parameter name -> tensor, of another network of the same kind.
        old: inputs and outputs of the network the weights come from.
        new: inputs and outputs of `network`.

    Returns:
        The report of each tensor.

    Raises:
        ModelError: nothing fits.
    """
    ends = _end_axes(plan, new)
    fates: dict[str, list[str]] = {"loaded": [], "adapted": [], "fresh": []}
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            fates[_fill(tensor, weights.get(name), ends.get(name, {}), old, new)].append(name)
    used = {*fates["loaded"], *fates["adapted"]}
    if not used:
        raise ModelError(
            f"none of the network's {len(fates['fresh'])} tensors fits the {len(weights)} given",
            remedy="Start from a model whose plan names the same network and features.",
        )
    unused = tuple(name for name in weights if name not in used)
    return WeightTransfer(tuple(fates["loaded"]), tuple(fates["adapted"]), tuple(fates["fresh"]), unused)


def _end_axes(plan: Plan, ends: NetworkEnds) -> dict[str, dict[int, str]]:
    """The axes of each tensor that run over channels or classes: those that grow when the network gets one more of them."""
    spec = NetworkSpec.of(plan, len(ends.channels), len(ends.classes))
    axes: dict[str, dict[int, str]] = {}
    with torch.random.fork_rng(devices=()):
        usual = _shapes(spec)
        more = replace(spec, in_channels=spec.in_channels + 1), replace(spec, out_channels=spec.out_channels + 1)
        for what, one_more in zip(("channels", "classes"), more, strict=True):
            for name, shape in _shapes(one_more).items():
                grown = {axis: what for axis, size in enumerate(shape) if size != usual[name][axis]}
                axes.setdefault(name, {}).update(grown)
    return axes


def _shapes(spec: NetworkSpec) -> dict[str, torch.Size]:
    body = NetworkWrapper(build_body(spec))
    return {name: tensor.shape for name, tensor in (*body.named_parameters(), *body.named_buffers())}


def _fill(tensor: Tensor, source: Tensor | None, axes: Mapping[int, str], old: NetworkEnds, new: NetworkEnds) -> str:
    """Copy the matching values into a tensor, and return which of `WeightTransfer`'s lists it belongs to."""
    names = {axis: (getattr(old, what), getattr(new, what)) for axis, what in axes.items()}
    shape = [len(names[axis][0]) if axis in names else size for axis, size in enumerate(tensor.shape)]
    if source is None or list(source.shape) != shape:
        return "fresh"
    values = source.to(tensor)
    if all(before == after for before, after in names.values()):
        tensor.copy_(values)
        return "loaded"
    rows: dict[int, tuple[list[int], list[int]]] = {}
    for axis, (before, after) in names.items():
        if axes[axis] == "channels":
            values = _rechanneled(values, axis, before, after)
        else:
            rows[axis] = _shared(before, after)
    if any(not here for _, here in rows.values()):
        return "fresh"
    there = [rows[axis][0] if axis in rows else list(range(size)) for axis, size in enumerate(values.shape)]
    here = [rows[axis][1] if axis in rows else list(range(size)) for axis, size in enumerate(tensor.shape)]
    tensor[_grid(here)] = values[_grid(there)]
    return "adapted"


def _rechanneled(weights: Tensor, axis: int, before: Sequence[str], after: Sequence[str]) -> Tensor:
    """Weights with the new channels along an axis."""
    mean = weights.mean(axis)

    def column(name: str) -> Tensor:
        if name in before:
            return weights.select(axis, before.index(name))
        return torch.zeros_like(mean) if name.startswith(_LABEL) else mean

    return torch.stack([column(name) for name in after], axis)


def _shared(before: Sequence[str], after: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices, before and after, of the names that are in both."""
    both = [name for name in after if name in before]
    return [before.index(name) for name in both], [after.index(name) for name in both]


def _grid(indices: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Index of a block of a tensor, from its indices along each axis."""
    return torch.meshgrid(*(torch.tensor(along) for along in indices), indexing="ij")
