"""Window and batch within a device's means: a GPU's memory by nnU-Net's rules, or what a CPU computes in about a second.

nnU-Net measures memory in the numbers that the convolutions of one window put out, against a reference that is known to fit
(Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; for residual encoders 2024, arXiv:2404.09556). On a CPU a small network
that takes many steps learns more in the same time than a large one that takes few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxelry.core.plan import Plan
from voxelry.errors import ConfigError
from voxelry.planning.design import Design
from voxelry.planning.topology import SMALLEST_EDGE, Topology, padded

GIGABYTE = 10**9
SMALLEST_BATCH = 2
START = {2: 2048**2, 3: 256**3}
"""Voxels of the window from which the search starts."""

REFERENCE_BATCH = {2: 12, 3: 2}
"""Windows of the reference's size that are a step on the reference's GPU."""


@dataclass(frozen=True)
class Gpu:
    """A GPU to plan for.

    Attributes:
        memory: bytes.
        reference: bytes of the GPU for which `numbers` are known to fit.
        numbers: that a window of 2 or 3 axes puts out, of which `REFERENCE_BATCH` are a step.
        windows: of 2 or 3 axes that must fit, at the least.
        share: of all voxels of the set that a step may see, so that no step learns the set by heart.
    """

    memory: float
    reference: float
    numbers: dict[int, float]
    windows: dict[int, int]
    share: float

    @property
    def name(self) -> str:
        """In words."""
        return f"a GPU of {self.memory / GIGABYTE:g} GB"

    def limit(self, axes: int) -> float:
        """Numbers that a window of so many axes may put out, `REFERENCE_BATCH` of them being a step."""
        return self.numbers[axes] * self.memory / self.reference


@dataclass(frozen=True)
class Cpu:
    """A CPU to plan for: voxels of a window, windows a step, channels of the first and the widest stage, stages."""

    voxels: int
    batch: int
    first: int
    widest: int
    stages: int

    name = "a CPU"


PLAIN = Gpu(8 * GIGABYTE, 8 * GIGABYTE, {2: 85e6, 3: 560e6}, {2: 2, 3: 2}, 0.05)
RESIDUAL = {
    "M": Gpu(8 * GIGABYTE, 8 * GIGABYTE, {2: 135e6, 3: 680e6}, REFERENCE_BATCH, 1.0),
    "L": Gpu(24 * GIGABYTE, 24 * GIGABYTE, {2: 380e6, 3: 2100e6}, REFERENCE_BATCH, 1.0),
    "XL": Gpu(40 * GIGABYTE, 40 * GIGABYTE, {2: 560e6, 3: 3600e6}, REFERENCE_BATCH, 1.0),
}
CPUS = {3: Cpu(96_000, 2, 16, 128, 4), 2: Cpu(256 * 256, 8, 16, 256, 6)}
WIDTHS = {2: (32, 512), 3: (32, 320)}
"""Channels of the first and the widest stage on a GPU."""


@dataclass(frozen=True)
class Fit:
    """A window, the stages for it, how many such windows are a step, and why so many."""

    patch: tuple[int, ...]
    topology: Topology
    batch: int
    why_patch: str
    why_batch: str


def fit_gpu(
    design: Design, median: Sequence[float], spacing: Sequence[float], gpu: Gpu, voxels: float, patch: Sequence[int] | None
) -> Fit:
    """The largest window that fits a GPU, and as many as fit.

    Args:
        design: of the network.
        median: voxels of the median case along each axis.
        spacing: mm along each axis.
        gpu: its memory.
        voxels: of all cases together.
        patch: the user's window, in place of the search.

    Raises:
        ConfigError: not even the smallest window fits.
    """
    axes = len(median)
    limit = gpu.limit(axes)
    found = design.topology(patch or _start(median, spacing), spacing)
    window = padded(patch or _start(median, spacing), found.divisor)
    largest, wanted = window, gpu.windows[axes] / REFERENCE_BATCH[axes]
    while patch is None and design.activations(window, found.strides) * wanted > limit:
        found, window = _shrunk(design, window, found, median, spacing, gpu)
    numbers = design.activations(window, found.strides)
    fitting = round(limit / numbers * REFERENCE_BATCH[axes])
    covering = round(voxels * gpu.share / math.prod(window))
    batch = max(min(fitting, covering), SMALLEST_BATCH)
    bound = (
        "no larger, but for rounding up, than" if window == largest else f"the largest of which {gpu.windows[axes]} fit, within"
    )
    allowed = f"{limit / 1e6:.0f} million that {REFERENCE_BATCH[axes]} such windows may have each on {gpu.name}"
    why_patch = f"{bound} the median case; its convolutions put out {numbers / 1e6:.0f} million numbers, of the {allowed}"
    return Fit(window, found, batch, why_patch, _why_batch(batch, fitting, covering, gpu, voxels))


def fit_cpu(design: Design, median: Sequence[float], spacing: Sequence[float], cpu: Cpu, patch: Sequence[int] | None) -> Fit:
    """A window, as near to a cube in mm as the median case allows, that a CPU computes in time for many steps.

    Args:
        design: of the network.
        median: voxels of the median case along each axis.
        spacing: mm along each axis.
        cpu: what it affords.
        patch: the user's window, in place of the search.
    """
    wanted = patch or block([math.ceil(n) for n in median], spacing, cpu.voxels)
    found = design.topology(wanted, spacing)
    whole = all(edge >= n for edge, n in zip(wanted, median, strict=True))
    why_patch = (
        f"{'the whole median case' if whole else 'the largest cube in mm'} within the {cpu.voxels} voxels that a CPU affords"
    )
    why_batch = "a CPU learns more by many small steps than by few large ones"
    return Fit(padded(wanted, found.divisor), found, cpu.batch, why_patch, why_batch)


def block(median: Sequence[int], spacing: Sequence[float], voxels: int) -> tuple[int, ...]:
    """The largest block of at most `voxels` voxels that is a cube in mm where the median case does not bound it.

    Args:
        median: voxels of the median case along each axis.
        spacing: mm along each axis.
        voxels: the bound.
    """

    def cube(edge: float) -> tuple[int, ...]:
        return tuple(max(1, min(n, round(edge / s))) for n, s in zip(median, spacing, strict=True))

    low, high = 0.0, max(n * s for n, s in zip(median, spacing, strict=True))
    for _ in range(60):
        edge = (low + high) / 2
        low, high = (edge, high) if math.prod(cube(edge)) <= voxels else (low, edge)
    return cube(high) if math.prod(cube(high)) <= voxels else cube(low)


def step_memory(plan: Plan, classes: int) -> int:
    """Bytes that a training step is planned to take on a GPU in mixed precision.

    Args:
        plan: any plan.
        classes: background included.
    """
    seen = [axis for axis in range(plan.dimensions) if axis != plan.slice_axis]
    network = plan.network
    widths = network.features
    design = Design(network.name, classes, widths[0], max(widths), None, widths, network.blocks or (2,), network.options)
    strides = [[stride[axis] for axis in seen] for stride in network.strides]
    numbers = design.activations([plan.patch_size[axis] for axis in seen], strides)
    gpu = RESIDUAL["M"] if network.name == "resenc" else PLAIN
    return round(plan.batch_size * numbers * gpu.reference / (gpu.numbers[len(seen)] * REFERENCE_BATCH[len(seen)]))


def _why_batch(batch: int, fitting: int, covering: int, gpu: Gpu, voxels: float) -> str:
    if fitting <= covering:
        why = f"{fitting} fill {gpu.name}" if fitting else f"not one fits {gpu.name}"
    else:
        why = (
            f"{gpu.share:.0%} of the set's {voxels / 1e6:.3g} million voxels are {covering}, and no step should see more,"
            f" although {fitting} would fit {gpu.name}"
        )
    return why if batch == min(fitting, covering) else f"{why}; but a step has {SMALLEST_BATCH} at the least"


def _start(median: Sequence[float], spacing: Sequence[float]) -> tuple[float, ...]:
    """A cube in mm that is larger than what any GPU affords, no larger than the median case."""
    edge = (START[len(median)] * math.prod(spacing)) ** (1 / len(median))
    return tuple(min(round(edge / s), n) for s, n in zip(spacing, median, strict=True))


def _shrunk(
    design: Design, patch: tuple[int, ...], found: Topology, median: Sequence[float], spacing: Sequence[float], gpu: Gpu
) -> tuple[Topology, tuple[int, ...]]:
    """The next smaller window: shorter along the axis of which it sees most, to the next length that the strides divide."""
    thick = max(range(len(patch)), key=lambda axis: (spacing[axis], axis)) if len(patch) == 3 else None
    axis = max(range(len(patch)), key=lambda one: (patch[one] / median[one], one != thick, -one))  # of equals nnU-Net's choice
    tried = [edge - (found.divisor[axis] if one == axis else 0) for one, edge in enumerate(patch)]
    smaller = patch[axis] - (design.topology(tried, spacing).divisor[axis] if tried[axis] > 0 else found.divisor[axis])
    if smaller < SMALLEST_EDGE:
        raise ConfigError(
            f"{gpu.name} is too small for network '{design.name}': a window of {' x '.join(map(str, patch))} voxels does not fit",
            remedy="Give more memory, fewer plan.features, or a plan.patch_size.",
        )
    window = tuple(smaller if one == axis else edge for one, edge in enumerate(patch))
    found = design.topology(window, spacing)
    return found, padded(window, found.divisor)
