"""Fine-tuning: what of one network's weights fits another, with other labels, other channels, or other layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from voxelry.core.labels import LabelTable
from voxelry.core.plan import Plan
from voxelry.errors import ModelError
from voxelry.networks.build import build_body
from voxelry.networks.network_spec import NetworkSpec
from voxelry.networks.wrapper import NetworkWrapper

_LABEL = "label: "
"""Before the name of a label whose first-stage mask is an input channel, so that it is no image channel's name."""


@dataclass(frozen=True)
class Ends:
    """What stands at the two ends of a network.

    Attributes:
        channels: names of the input channels.
        classes: names of the logits that its last layer gives.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]

    @staticmethod
    def of(plan: Plan, table: LabelTable) -> Ends:
        """The ends of the network of a plan: a cascade's labels are channels too, and regions have no background of their own."""
        first_stage = table.names if plan.configuration == "3d_cascade" else ()
        classes = tuple(region.name for region in plan.regions) or ("background", *table.names)
        return Ends((*plan.channels, *(_LABEL + name for name in first_stage)), classes)


@dataclass(frozen=True)
class Transfer:
    """What became of each tensor of a network.

    Attributes:
        loaded: taken as they are.
        adapted: taken in part: rows of labels, or columns of channels, that both networks know.
        fresh: started anew, since nothing of their name and shape was given.
        unused: given, and not used.
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors taken over"]
        for what, names in (("adapted", self.adapted), ("started anew", self.fresh), ("not used", self.unused)):
            if names:
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        return "; ".join(parts)


def load_matching(network: nn.Module, plan: Plan, weights: Mapping[str, Tensor], old: Ends, new: Ends) -> Transfer:
    """Load every tensor that fits by name and shape, and what can be kept of first and last layers.

    A row of the last layer goes to the label of the same name, and a label that is new starts anew. A channel takes the weights
    of the channel of the same name; a new one takes their mean, and a first stage's labels start at 0, so that the network
    begins as it was.

    Args:
        network: with fresh weights; changed in place.
        plan: that `network` was built from.
        weights: parameter name -> tensor, of another network of the same kind.
        old: the ends of the network the weights come from.
        new: the ends of `network`.

    Returns:
        What became of each tensor.

    Raises:
        ModelError: nothing fits.
    """
    ends = _end_axes(plan, new)
    fates: dict[str, list[str]] = {"loaded": [], "adapted": [], "fresh": []}
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            fates[_fill(tensor, weights.get(name), ends.get(name, {}), old, new)].append(name)
    taken = {*fates["loaded"], *fates["adapted"]}
    if not taken:
        raise ModelError(
            f"none of the network's {len(fates['fresh'])} tensors fits the {len(weights)} given",
            remedy="Start from a model whose plan names the same network and features.",
        )
    unused = tuple(name for name in weights if name not in taken)
    return Transfer(tuple(fates["loaded"]), tuple(fates["adapted"]), tuple(fates["fresh"]), unused)


def _end_axes(plan: Plan, ends: Ends) -> dict[str, dict[int, str]]:
    """Of each tensor the axes that run over channels or classes: those that grow where the network has one more of them."""
    spec = NetworkSpec.of(plan, len(ends.channels), len(ends.classes))
    found: dict[str, dict[int, str]] = {}
    with torch.random.fork_rng(devices=()):
        usual = _shapes(spec)
        more = replace(spec, in_channels=spec.in_channels + 1), replace(spec, out_channels=spec.out_channels + 1)
        for what, one_more in zip(("channels", "classes"), more, strict=True):
            for name, shape in _shapes(one_more).items():
                grown = {axis: what for axis, size in enumerate(shape) if size != usual[name][axis]}
                found.setdefault(name, {}).update(grown)
    return found


def _shapes(spec: NetworkSpec) -> dict[str, torch.Size]:
    body = NetworkWrapper(build_body(spec))
    return {name: tensor.shape for name, tensor in (*body.named_parameters(), *body.named_buffers())}


def _fill(tensor: Tensor, given: Tensor | None, axes: Mapping[int, str], old: Ends, new: Ends) -> str:
    """Put what fits into a tensor; what became of it."""
    names = {axis: (getattr(old, what), getattr(new, what)) for axis, what in axes.items()}
    wanted = [len(names[axis][0]) if axis in names else size for axis, size in enumerate(tensor.shape)]
    if given is None or list(given.shape) != wanted:
        return "fresh"
    given = given.to(tensor)
    if all(before == after for before, after in names.values()):
        tensor.copy_(given)
        return "loaded"
    rows: dict[int, tuple[list[int], list[int]]] = {}
    for axis, (before, after) in names.items():
        if axes[axis] == "channels":
            given = _rechanneled(given, axis, before, after)
        else:
            rows[axis] = _shared(before, after)
    if any(not here for _, here in rows.values()):
        return "fresh"
    there = [rows[axis][0] if axis in rows else list(range(size)) for axis, size in enumerate(given.shape)]
    here = [rows[axis][1] if axis in rows else list(range(size)) for axis, size in enumerate(tensor.shape)]
    tensor[_grid(here)] = given[_grid(there)]
    return "adapted"


def _rechanneled(given: Tensor, axis: int, before: Sequence[str], after: Sequence[str]) -> Tensor:
    """Weights with the new channels along an axis."""
    mean = given.mean(axis)

    def column(name: str) -> Tensor:
        if name in before:
            return given.select(axis, before.index(name))
        return torch.zeros_like(mean) if name.startswith(_LABEL) else mean

    return torch.stack([column(name) for name in after], axis)


def _shared(before: Sequence[str], after: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places, before and after, of the names that are in both."""
    both = [name for name in after if name in before]
    return [before.index(name) for name in both], [after.index(name) for name in both]


def _grid(places: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Indices of a block of a tensor, from its places along each axis."""
    return torch.meshgrid(*(torch.tensor(part) for part in places), indexing="ij")
