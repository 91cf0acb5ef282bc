"""The smallest plan that each network takes."""

from helpers.plans import tiny_network, tiny_plan
from voxelry.core.architectures import ARCHITECTURES


def small(name, dimensions, supervision=9, across=None, **changes):
    """A plan whose patches are halved along every axis but the one across slices, and leave two voxels in the coarsest stage."""
    needs = ARCHITECTURES[name]
    stages = max(needs.fewest, 3)
    features = (4, 8, 8) if needs.widths is None else needs.widths(12 if name == "swinunetr" else 4, stages)
    options = {"depths": (1, 1, 1, 1), "window_size": 4} if name == "swinunetr" else {}
    parts = {"name": name, "deep_supervision": supervision, "options": options}
    network = tiny_network(dimensions, features, **parts)
    if across is not None:
        for key in ("strides", "kernels"):
            parts[key] = tuple((*one[:across], 1, *one[across + 1 :]) for one in getattr(network, key))
        network = tiny_network(dimensions, features, **parts)
    longest = max(axis for axis in range(dimensions) if axis != across)
    patch = [edge * (2 if axis == longest else 1) for axis, edge in enumerate(network.divisor)]
    return tiny_plan(dimensions, network=network, patch_size=tuple(patch), slice_axis=across, **changes)
