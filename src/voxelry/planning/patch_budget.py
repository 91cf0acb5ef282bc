"""Patch and batch size for a device: a GPU's memory by nnU-Net's rules, or about a second of a CPU's computing time.

nnU-Net measures memory in the numbers that the convolutions of one patch put out, against a reference that is known to fit
(`voxelry.core.architectures.GpuReference`). On a CPU a small network that takes many steps learns more in the same time than a
large one that takes few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxelry.core.architectures import GIGABYTE, REFERENCE_BATCH, GpuReference
from voxelry.errors import ConfigError
from voxelry.planning.design import Design
from voxelry.planning.topology import SMALLEST_EDGE, Topology, padded

SMALLEST_BATCH = 2
START = {2: 2048**2, 3: 256**3}
"""Voxels of the patch from which the search starts."""


@dataclass(frozen=True)
class Gpu:
    """A GPU to plan for.

    Attributes:
        memory: bytes.
        reference: patch known to fit the GPU that the network's authors plan for.
    """

    memory: float
    reference: GpuReference

    @property
    def name(self) -> str:
        """The GPU in words."""
        return f"a GPU of {self.memory / GIGABYTE:g} GB"

    def limit(self, axes: int) -> float:
        """Numbers that a patch of so many axes may put out, `REFERENCE_BATCH` patches being a step."""
        return self.reference.outputs[axes] * self.memory / self.reference.memory


@dataclass(frozen=True)
class Cpu:
    """A CPU to plan for: voxels of a patch, patches per step, channels of the first and the widest stage, stages."""

    voxels: int
    batch: int
    first: int
    widest: int
    stages: int

    name = "a CPU"


CPUS = {3: Cpu(96_000, 2, 16, 128, 4), 2: Cpu(256 * 256, 8, 16, 256, 6)}
WIDTHS = {2: (32, 512), 3: (32, 320)}
"""Channels of the first and the widest stage on a GPU."""


@dataclass(frozen=True)
class Fit:
    """A patch size, the stages for it, the batch size, and the reasons for both."""

    patch: tuple[int, ...]
    topology: Topology
    batch: int
    why_patch: str
    why_batch: str


def fit_gpu(
    design: Design, median: Sequence[float], spacing: Sequence[float], gpu: Gpu, voxels: float, patch: Sequence[int] | None
) -> Fit:
    """The largest patch that fits a GPU, and as many as fit.

    Args:
        design: design of the network.
        median: voxels of the median case along each axis.
        spacing: mm along each axis.
        gpu: its memory.
        voxels: voxels of all cases together.
        patch: the user's size, in place of the search.

    Raises:
        ConfigError: not even the smallest patch fits.
    """
    axes = len(median)
    limit = gpu.limit(axes)
    topology = design.topology(patch or _start(median, spacing), spacing)
    size = padded(patch or _start(median, spacing), topology.divisor)
    largest, at_least = size, gpu.reference.patches[axes] / REFERENCE_BATCH[axes]
    while patch is None and design.activations(size, topology.strides) * at_least > limit:
        topology, size = _shrunk(design, size, topology, median, spacing, gpu)
    numbers = design.activations(size, topology.strides)
    fitting = round(limit / numbers * REFERENCE_BATCH[axes])
    covering = round(voxels * gpu.reference.share / math.prod(size))
    batch = max(min(fitting, covering), SMALLEST_BATCH)
    bound = "no larger than" if size == largest else f"the largest of which {gpu.reference.patches[axes]} fit, within"
    allowed = f"at most {limit / 1e6:.0f} million each for {REFERENCE_BATCH[axes]} patches on {gpu.name}"
    why_patch = f"{bound} the median case, rounded up; it has {numbers / 1e6:.0f} million activations, {allowed}"
    return Fit(size, topology, batch, why_patch, _why_batch(batch, fitting, covering, gpu, voxels))


def fit_cpu(design: Design, median: Sequence[float], spacing: Sequence[float], cpu: Cpu, patch: Sequence[int] | None) -> Fit:
    """A patch, as near to a cube in mm as the median case allows, that a CPU computes in time for many steps.

    Args:
        design: design of the network.
        median: voxels of the median case along each axis.
        spacing: mm along each axis.
        cpu: its limits.
        patch: the user's size, in place of the search.
    """
    size = patch or block([math.ceil(n) for n in median], spacing, cpu.voxels)
    topology = design.topology(size, spacing)
    whole = all(edge >= n for edge, n in zip(size, median, strict=True))
    why_patch = (
        f"{'the whole median case' if whole else 'the largest cube in mm'} within the {cpu.voxels} voxels that a CPU allows"
    )
    why_batch = "a CPU learns more by many small steps than by few large ones"
    return Fit(padded(size, topology.divisor), topology, cpu.batch, why_patch, why_batch)


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


def _why_batch(batch: int, fitting: int, covering: int, gpu: Gpu, voxels: float) -> str:
    if fitting <= covering:
        why = f"{fitting} fill {gpu.name}" if fitting else f"none fits {gpu.name}"
    else:
        why = (
            f"{covering} cover about {gpu.reference.share:.0%} of the dataset's {voxels / 1e6:.3g} million voxels, the most that"
            f" a step may see, although {fitting} fit {gpu.name}"
        )
    return why if batch == min(fitting, covering) else f"{why}; but a step has at least {SMALLEST_BATCH}"


def _start(median: Sequence[float], spacing: Sequence[float]) -> tuple[float, ...]:
    """A cube in mm that is larger than what any GPU allows, no larger than the median case."""
    edge = (START[len(median)] * math.prod(spacing)) ** (1 / len(median))
    return tuple(min(round(edge / s), n) for s, n in zip(spacing, median, strict=True))


def _shrunk(
    design: Design, patch: tuple[int, ...], topology: Topology, median: Sequence[float], spacing: Sequence[float], gpu: Gpu
) -> tuple[Topology, tuple[int, ...]]:
    """The next smaller patch: shorter along the axis of which it covers most, to the next length that the strides divide."""
    thick = max(range(len(patch)), key=lambda axis: (spacing[axis], axis)) if len(patch) == 3 else None
    shortened = max(range(len(patch)), key=lambda axis: (patch[axis] / median[axis], axis != thick, -axis))  # ties as nnU-Net
    divisor = topology.divisor[shortened]
    trial = [edge - (divisor if axis == shortened else 0) for axis, edge in enumerate(patch)]
    edge = patch[shortened] - (design.topology(trial, spacing).divisor[shortened] if trial[shortened] > 0 else divisor)
    if edge < SMALLEST_EDGE:
        raise ConfigError(
            f"{gpu.name} is too small for network '{design.name}': a patch of {' x '.join(map(str, patch))} voxels does not fit",
            remedy="Give more memory, fewer plan.features, or a plan.patch_size.",
        )
    size = tuple(edge if axis == shortened else length for axis, length in enumerate(patch))
    topology = design.topology(size, spacing)
    return topology, padded(size, topology.divisor)
