"""Drafts of the four configurations of a dataset (spacing, patch, batch), from which the planner makes the plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from voxelry.core.architectures import DEFAULT_NETWORK, GIGABYTE, architecture, preset
from voxelry.core.plan import Configuration, Fingerprint
from voxelry.errors import ConfigError
from voxelry.planning.design import Design, make_design
from voxelry.planning.object_design import normalised
from voxelry.planning.patch_budget import CPUS, WIDTHS, Cpu, Fit, Gpu, fit_cpu, fit_gpu
from voxelry.planning.spacing import Spacing, by, median_shape, slice_axis, target_spacing
from voxelry.planning.topology import halving, padded
from voxelry.recipes.settings import PlanSettings, parse_memory

ENOUGH = 0.25
"""Share of a median case's voxels that a patch must cover; below it a coarser stage is worthwhile."""

WORTHWHILE = 2.0
"""A coarser stage has at least this many times fewer voxels."""

COARSENED = 1.03
"""Factor by which voxels are enlarged until a patch covers enough."""

MICROSCOPES = {"SM", "GM"}
"""DICOM's terms for modalities whose pixels are all of one size, though files may not state it."""

LARGEST_PICTURE = 512
"""Largest number of pixels of the longer edge to which pictures of unknown size are scaled for a GPU."""


@dataclass(frozen=True)
class Draft:
    """One configuration of a dataset before it becomes a plan.

    Attributes:
        configuration: one of nnU-Net's four.
        spacing: target mm along each axis.
        median: voxels of the median case along each axis at that spacing.
        fit: patch, stages and batch; on slices without the axis across them.
        design: design of the network.
        across: the axis across slices, for slices.
        long_side: pixels of a picture's longer edge.
        reasons: why.
    """

    configuration: Configuration
    spacing: Spacing | None
    median: tuple[float, ...]
    fit: Fit
    design: Design
    across: int | None = None
    long_side: int | None = None
    reasons: tuple[str, ...] = ()

    @property
    def coverage(self) -> float:
        """Share of the median case's voxels that a patch covers."""
        return math.prod(self.fit.patch) / math.prod(self.median)

    @property
    def coverage_text(self) -> str:
        """`coverage` in words."""
        return "all" if self.coverage >= 1 else f"{self.coverage:.0%}" if self.coverage >= 0.1 else f"{self.coverage:.1%}"


@dataclass(frozen=True)
class Drafter:
    """Drafts the configurations of one dataset for one device.

    Attributes:
        fingerprint: the dataset's, axes in the plan's order.
        settings: the user's settings.
        codes: axis codes of the plan's order.
        gpu: GPU to plan for; None for a CPU.
    """

    fingerprint: Fingerprint
    settings: PlanSettings
    codes: str
    gpu: Gpu | None

    def drafts(self) -> dict[Configuration, Draft]:
        """Every configuration that suits the data, the default first."""
        if self.fingerprint.dimensions == 2:
            return {"2d": self._pictures()}
        slices, full = self._slices(), self._full()
        if min(full.median) < 2:
            return {"2d": slices}
        low = self._coarser(full)
        if low is None:
            why = f"The configuration is 3d without a coarser stage, since {_enough(full)}."
            return {"3d": _because(full, why), "2d": slices}
        little = f"a patch at full resolution covers {full.coverage_text} of the median case's voxels, less than {ENOUGH:.0%}"
        cascade = replace(full, configuration="3d_cascade")
        drafts: dict[Configuration, Draft] = {
            "3d": _because(full, f"The configuration is 3d at full resolution; {little}, so 3d_lowres and 3d_cascade exist too."),
            "2d": slices,
            "3d_lowres": low,
            "3d_cascade": _because(
                cascade, f"The configuration is 3d_cascade, since {little}, and it starts from the labels of 3d_lowres."
            ),
        }
        if self.gpu is None and self.settings.spacing is None and self.settings.patch_size is None:
            return {"3d_lowres": drafts.pop("3d_lowres"), **drafts}
        return drafts

    def draft(self) -> Draft:
        """The configuration that the user asks for, or else the first.

        Raises:
            ConfigError: it makes no sense for these data.
        """
        name = self.settings.configuration
        if name == "2d" and self.fingerprint.dimensions == 3:
            return self._slices()
        drafts = self.drafts()
        if name is None:
            return next(iter(drafts.values()))
        if name not in drafts:
            no_volume = "the data are pictures" if self.fingerprint.dimensions == 2 else "the cases are single slices"
            why = _enough(drafts["3d"]) if "3d" in drafts else no_volume
            raise ConfigError(
                f"plan.configuration is '{name}', but {why}", remedy=f"Choose {' or '.join(drafts)}, or leave it out."
            )
        return drafts[name]

    def _full(self) -> Draft:
        spacing, reasons = self._target()
        median = median_shape(self.fingerprint, spacing)
        design = self._design(3)
        fit = self._fit(
            design, median, self._sizes(spacing), math.prod(median) * self.fingerprint.cases, self.settings.patch_size
        )
        return Draft("3d", spacing, median, fit, design, reasons=reasons)

    def _coarser(self, full: Draft) -> Draft | None:
        """The draft of 3d_lowres: voxels enlarged, shortest edges first, until a patch covers enough; None for little gain."""
        fine = self._sizes(full.spacing)
        sizes, median, fit = list(fine), full.median, full.fit
        while math.prod(fit.patch) / math.prod(median) < ENOUGH:
            short = [max(sizes) / size > 2 for size in sizes]
            sizes = [
                size * COARSENED if is_short or not any(short) else size for size, is_short in zip(sizes, short, strict=True)
            ]
            median = tuple(n * now / then for n, now, then in zip(full.median, fine, sizes, strict=True))
            voxels = math.prod(median) * self.fingerprint.cases
            whole = [max(1.0, round(n)) for n in median]
            fit = self._fit(full.design, whole, sizes, voxels, self.settings.patch_size)
        if math.prod(full.median) / math.prod(median) < WORTHWHILE:
            return None
        spacing = tuple(round(size, 6) for size in sizes)
        why = (
            f"The configuration is 3d_lowres, since a patch at full resolution covers {full.coverage_text} of the median case's"
            f" voxels, less than {ENOUGH:.0%}; voxels are enlarged from {by(fine)} to {by(spacing)} mm, where it covers"
            f" {math.prod(fit.patch) / math.prod(median):.0%}."
        )
        whole_median = tuple(max(1.0, float(round(n))) for n in median)
        return Draft("3d_lowres", spacing, whole_median, fit, full.design, reasons=(*full.reasons, why))

    def _slices(self) -> Draft:
        spacing, reasons = self._target()
        median, sizes = median_shape(self.fingerprint, spacing), self._sizes(spacing)
        across = median.index(min(median)) if min(median) < 2 else slice_axis(sizes, self.codes)
        inside = [axis for axis in range(3) if axis != across]
        setting = self.settings.patch_size
        if setting is not None and setting[across] != 1 and self.settings.configuration == "2d":
            raise ConfigError(
                f"plan.patch_size is {list(setting)}, but slices are one voxel deep along axis {across}", remedy="Write 1 there."
            )
        patch = None if setting is None else [setting[axis] for axis in inside]
        design = self._design(2)
        flat, voxels = [median[axis] for axis in inside], math.prod(median) * self.fingerprint.cases
        fit = self._fit(design, flat, [sizes[axis] for axis in inside], voxels, patch)
        target, stays = spacing, "; that axis is resampled too, as the recipe asks"
        if spacing is not None and self.settings.spacing is None:
            target = tuple(None if axis == across else size for axis, size in enumerate(spacing))
            stays = "; that axis stays as it is stored"
        why = (
            f"The configuration is 2d, slice by slice across axis {across} ({self.codes[across]}), along which voxels"
            f" are {sizes[across]:g} mm long and the median case has {median[across]:g}{stays}."
        )
        shape = tuple(1.0 if axis == across else n for axis, n in enumerate(median))
        return Draft("2d", target, shape, fit, design, across, reasons=(*reasons, why))

    def _pictures(self) -> Draft:
        spacing, long_side, more = self.settings.spacing, self.settings.long_side, list[str]()
        if spacing is not None:
            reason = f"The target spacing is {by(spacing)} mm, as the recipe asks."
        elif long_side is not None:
            reason = f"Pictures are scaled to {long_side} pixels along their longer edge, as the recipe asks."
        elif self.fingerprint.modality in MICROSCOPES:
            reason = f"Pictures keep their pixels, since in microscopy ({self.fingerprint.modality}) pixels have a physical size."
            long_side = self._side_by_objects(more)
        else:
            largest, most = max(self.fingerprint.shapes[1]), LARGEST_PICTURE if self.gpu else math.isqrt(CPUS[2].voxels)
            long_side = min(largest, most)
            reason = (
                f"Pictures are scaled to {long_side} pixels along their longer edge, the lesser of the median case's {largest}"
                f" and the {most} that {self.gpu.name if self.gpu else Cpu.name} allows, since their physical size is not"
                " compared."
            )
        median, design = median_shape(self.fingerprint, spacing, long_side), self._design(2)
        sizes = self._sizes(spacing) if spacing is not None else (1.0, 1.0)
        fit = self._fit(design, median, sizes, math.prod(median) * self.fingerprint.cases, self.settings.patch_size)
        reasons = (reason, *more, "The configuration is 2d, since the data are pictures.")
        return Draft("2d", spacing, median, fit, design, long_side=long_side, reasons=reasons)

    def _side_by_objects(self, reasons: list[str]) -> int | None:
        """The longer edge at which the objects of pictures of one size have a workable size; None leaves them as they are."""
        smallest, _, largest = self.fingerprint.shapes
        factor = max(normalised((1.0, 1.0), self.fingerprint, self.settings, reasons if smallest == largest else []))
        return round(max(largest) / factor) if smallest == largest and factor > 1 else None

    def _target(self) -> tuple[Spacing | None, tuple[str, ...]]:
        if self.settings.spacing is not None:
            return self.settings.spacing, (f"The target spacing is {by(self.settings.spacing)} mm, as the recipe asks.",)
        reasons: list[str] = []
        spacing = target_spacing(self.fingerprint, reasons)
        return spacing and normalised(spacing, self.fingerprint, self.settings, reasons), tuple(reasons)

    def _sizes(self, spacing: Spacing | None) -> tuple[float, ...]:
        """Target voxel size in mm, the stored size where there is no target."""
        stored = self.fingerprint.spacing or (1.0,) * self.fingerprint.dimensions
        return tuple(own if size is None else size for own, size in zip(stored, spacing or stored, strict=True))

    def _design(self, axes: int) -> Design:
        """The network before the patch size is known; on a CPU half as wide as published."""
        first, widest = WIDTHS[axes] if self.gpu else (CPUS[axes].first, CPUS[axes].widest)
        design = make_design(
            self.settings, len(self.fingerprint.label_voxels) + 1, first, widest, None if self.gpu else CPUS[axes].stages
        )
        published = architecture(design.name).first
        return design if published is None else replace(design, first=published if self.gpu else published // 2)

    def _fit(
        self, design: Design, median: Sequence[float], sizes: Sequence[float], voxels: float, patch: Sequence[int] | None
    ) -> Fit:
        if self.gpu is not None:
            fit = fit_gpu(design, median, sizes, self.gpu, voxels, patch)
        else:
            fit = fit_cpu(design, median, sizes, CPUS[len(median)], patch)
        if fit.patch == fit.topology.divisor and len(fit.topology.strides) > 1:  # instance norm needs more than one voxel
            longest = max(range(len(median)), key=lambda axis: median[axis])
            return replace(fit, patch=tuple(edge * 2 if axis == longest else edge for axis, edge in enumerate(fit.patch)))
        if patch is not None or design.features or len(fit.topology.strides) > 1:
            return fit
        tiny = halving(len(median), 2)  # cases of a few voxels are halved once, whatever the rule says
        return replace(fit, topology=tiny, patch=padded(fit.patch, tiny.divisor))


def gpu_of(settings: PlanSettings, device: str) -> Gpu | None:
    """The GPU to plan for; None for a CPU.

    Its memory is what the user names, or what the network's authors plan for, at most the device's own.

    Args:
        settings: the user's.
        device: ``cpu`` or ``cuda``.
    """
    name = settings.network or DEFAULT_NETWORK
    size = preset(name, settings.preset) if settings.preset else None
    reference = (size and size.gpu) or architecture(name).gpu
    if settings.memory is not None:
        return Gpu(parse_memory(settings.memory), reference)
    return Gpu(min(reference.memory, _own_memory(device, reference.memory)), reference) if device.startswith("cuda") else None


def _own_memory(device: str, default: int) -> int:
    """Bytes of a GPU, to the nearest gigabyte; `default` where there is none to ask."""
    import torch

    if not torch.cuda.is_available():
        return default
    return max(1, round(torch.cuda.get_device_properties(device).total_memory / GIGABYTE)) * GIGABYTE


def _enough(full: Draft) -> str:
    """Why there is no coarser stage."""
    if full.coverage < ENOUGH:
        return f"a coarser stage would not have {WORTHWHILE:g} times fewer voxels"
    return f"a patch covers {full.coverage_text} of the median case's voxels, and {ENOUGH:.0%} is enough"


def _because(draft: Draft, why: str) -> Draft:
    return replace(draft, reasons=(*draft.reasons, why))
