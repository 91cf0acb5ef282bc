"""Which configuration suits a dataset: spacing, window and batch of each, before they become a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from voxelry.core.architectures import architecture
from voxelry.core.plan import Configuration, Fingerprint
from voxelry.errors import ConfigError
from voxelry.planning.design import Design, design
from voxelry.planning.patch_budget import CPUS, GIGABYTE, PLAIN, RESIDUAL, WIDTHS, Cpu, Fit, Gpu, fit_cpu, fit_gpu
from voxelry.planning.spacing import Spacing, by, median_shape, slice_axis, target_spacing
from voxelry.planning.topology import halving, padded
from voxelry.recipes.settings import PlanSettings, parse_memory

ENOUGH = 0.25
"""Share of a median case's voxels that a window must see, or else a coarser stage is worth while."""

WORTHWHILE = 2.0
"""A coarser stage has this many times fewer voxels, at the least."""

COARSENED = 1.03
"""Factor by which voxels are enlarged until a window sees enough."""

MICROSCOPES = {"SM", "GM"}
"""DICOM's terms for modalities in which a pixel is a length, though files may not say so."""

LARGEST_PICTURE = 512
"""Pixels of the longer edge to which pictures of unknown size are brought for a GPU, at most."""


@dataclass(frozen=True)
class Draft:
    """What is planned for one configuration.

    Attributes:
        configuration: of nnU-Net's four.
        spacing: target mm along each axis.
        median: voxels of the median case along each axis at that spacing.
        fit: window, stages and batch; on slices without the axis across them.
        design: of the network.
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
    def share(self) -> float:
        """Of the median case's voxels that a window sees."""
        return math.prod(self.fit.patch) / math.prod(self.median)

    @property
    def seen_share(self) -> str:
        """`share` in words."""
        return "all" if self.share >= 1 else f"{self.share:.0%}" if self.share >= 0.1 else f"{self.share:.1%}"


@dataclass(frozen=True)
class Drafter:
    """Drafts the configurations of one dataset for one device.

    Attributes:
        seen: what the dataset looks like, axes in the plan's order.
        settings: what the user has decided.
        codes: axis codes of the plan's order.
        gpu: to plan for; None for a CPU.
    """

    seen: Fingerprint
    settings: PlanSettings
    codes: str
    gpu: Gpu | None

    def drafts(self) -> dict[Configuration, Draft]:
        """Every configuration that makes sense, the one to take first."""
        if self.seen.dimensions == 2:
            return {"2d": self._pictures()}
        slices, full = self._slices(), self._full()
        if min(full.median) < 2:
            return {"2d": slices}
        low = self._coarser(full)
        if low is None:
            why = f"The configuration is 3d without a coarser stage, since {_enough(full)}."
            return {"3d": _because(full, why), "2d": slices}
        little = f"a window at full resolution sees {full.seen_share} of the median case's voxels, less than {ENOUGH:.0%}"
        cascade = replace(full, configuration="3d_cascade")
        found: dict[Configuration, Draft] = {
            "3d": _because(full, f"The configuration is 3d at full resolution; {little}, so 3d_lowres and 3d_cascade exist too."),
            "2d": slices,
            "3d_lowres": low,
            "3d_cascade": _because(
                cascade, f"The configuration is 3d_cascade, since {little}, and labels found by 3d_lowres tell it more."
            ),
        }
        if self.gpu is None and self.settings.spacing is None and self.settings.patch_size is None:
            return {"3d_lowres": found.pop("3d_lowres"), **found}
        return found

    def draft(self) -> Draft:
        """That which the user asks for, or else the first.

        Raises:
            ConfigError: it makes no sense for these data.
        """
        wanted = self.settings.configuration
        if wanted == "2d" and self.seen.dimensions == 3:
            return self._slices()
        drafts = self.drafts()
        if wanted is None:
            return next(iter(drafts.values()))
        if wanted not in drafts:
            alone = "the data are pictures" if self.seen.dimensions == 2 else "the cases are single slices"
            why = _enough(drafts["3d"]) if "3d" in drafts else alone
            raise ConfigError(
                f"plan.configuration is '{wanted}', but {why}", remedy=f"Choose {' or '.join(drafts)}, or leave it out."
            )
        return drafts[wanted]

    def _full(self) -> Draft:
        spacing, reasons = self._target()
        median = median_shape(self.seen, spacing)
        drawn = self._design(3)
        fit = self._fit(drawn, median, self._sizes(spacing), math.prod(median) * self.seen.cases, self.settings.patch_size)
        return Draft("3d", spacing, median, fit, drawn, reasons=reasons)

    def _coarser(self, full: Draft) -> Draft | None:
        """Voxels enlarged, the shortest edges first, until a window sees enough; None where that gains too little."""
        fine = self._sizes(full.spacing)
        sizes, median, fit = list(fine), full.median, full.fit
        while math.prod(fit.patch) / math.prod(median) < ENOUGH:
            short = [max(sizes) / size > 2 for size in sizes]
            sizes = [size * COARSENED if one or not any(short) else size for size, one in zip(sizes, short, strict=True)]
            median = tuple(n * now / then for n, now, then in zip(full.median, fine, sizes, strict=True))
            voxels = math.prod(median) * self.seen.cases
            whole = [max(1.0, round(n)) for n in median]
            fit = self._fit(full.design, whole, sizes, voxels, self.settings.patch_size)
        if math.prod(full.median) / math.prod(median) < WORTHWHILE:
            return None
        spacing = tuple(round(size, 6) for size in sizes)
        why = (
            f"The configuration is 3d_lowres, since a window at full resolution sees {full.seen_share} of the median case's"
            f" voxels, less than {ENOUGH:.0%}; voxels are enlarged from {by(fine)} to {by(spacing)} mm, where it sees"
            f" {math.prod(fit.patch) / math.prod(median):.0%}."
        )
        whole_median = tuple(max(1.0, float(round(n))) for n in median)
        return Draft("3d_lowres", spacing, whole_median, fit, full.design, reasons=(*full.reasons, why))

    def _slices(self) -> Draft:
        spacing, reasons = self._target()
        median, sizes = median_shape(self.seen, spacing), self._sizes(spacing)
        across = median.index(min(median)) if min(median) < 2 else slice_axis(sizes, self.codes)
        inside = [axis for axis in range(3) if axis != across]
        given = self.settings.patch_size
        if given is not None and given[across] != 1 and self.settings.configuration == "2d":
            raise ConfigError(
                f"plan.patch_size is {list(given)}, but slices are one voxel deep along axis {across}", remedy="Write 1 there."
            )
        patch = None if given is None else [given[axis] for axis in inside]
        drawn = self._design(2)
        flat, voxels = [median[axis] for axis in inside], math.prod(median) * self.seen.cases
        fit = self._fit(drawn, flat, [sizes[axis] for axis in inside], voxels, patch)
        kept, stays = spacing, "; that axis is resampled too, as the recipe asks"
        if spacing is not None and self.settings.spacing is None:
            kept = tuple(None if axis == across else size for axis, size in enumerate(spacing))
            stays = "; that axis stays as it is stored"
        why = (
            f"The configuration is 2d, slice by slice across axis {across} ({self.codes[across]}), along which voxels"
            f" are {sizes[across]:g} mm long and the median case has {median[across]:g}{stays}."
        )
        shape = tuple(1.0 if axis == across else n for axis, n in enumerate(median))
        return Draft("2d", kept, shape, fit, drawn, across, reasons=(*reasons, why))

    def _pictures(self) -> Draft:
        spacing, long_side = self.settings.spacing, self.settings.long_side
        if spacing is not None:
            reason = f"The target spacing is {by(spacing)} mm, as the recipe asks."
        elif long_side is not None:
            reason = f"Pictures are scaled to {long_side} pixels along their longer edge, as the recipe asks."
        elif self.seen.modality in MICROSCOPES:
            reason = f"Pictures keep their pixels, since in microscopy ({self.seen.modality}) these tell how large things are."
        else:
            largest, most = max(self.seen.shapes[1]), LARGEST_PICTURE if self.gpu else math.isqrt(CPUS[2].voxels)
            long_side = min(largest, most)
            reason = (
                f"Pictures are scaled to {long_side} pixels along their longer edge, the lesser of the median case's {largest}"
                f" and the {most} that {self.gpu.name if self.gpu else Cpu.name} affords, since their physical size is not"
                " compared."
            )
        median, drawn = median_shape(self.seen, spacing, long_side), self._design(2)
        sizes = self._sizes(spacing) if spacing is not None else (1.0, 1.0)
        fit = self._fit(drawn, median, sizes, math.prod(median) * self.seen.cases, self.settings.patch_size)
        reasons = (reason, "The configuration is 2d, since the data are pictures.")
        return Draft("2d", spacing, median, fit, drawn, long_side=long_side, reasons=reasons)

    def _target(self) -> tuple[Spacing | None, tuple[str, ...]]:
        if self.settings.spacing is not None:
            return self.settings.spacing, (f"The target spacing is {by(self.settings.spacing)} mm, as the recipe asks.",)
        reasons: list[str] = []
        return target_spacing(self.seen, reasons), tuple(reasons)

    def _sizes(self, spacing: Spacing | None) -> tuple[float, ...]:
        """Lengths of a voxel in mm, the stored ones where there is no target."""
        stored = self.seen.spacing or (1.0,) * self.seen.dimensions
        return tuple(own if size is None else size for own, size in zip(stored, spacing or stored, strict=True))

    def _design(self, axes: int) -> Design:
        """The network as far as it is known; on a CPU half as wide as its authors publish it."""
        first, widest = WIDTHS[axes] if self.gpu else (CPUS[axes].first, CPUS[axes].widest)
        drawn = design(self.settings, len(self.seen.label_voxels) + 1, first, widest, None if self.gpu else CPUS[axes].stages)
        published = architecture(drawn.name).first
        return drawn if published is None else replace(drawn, first=published if self.gpu else published // 2)

    def _fit(
        self, drawn: Design, median: Sequence[float], sizes: Sequence[float], voxels: float, patch: Sequence[int] | None
    ) -> Fit:
        if self.gpu is not None:
            fit = fit_gpu(drawn, median, sizes, self.gpu, voxels, patch)
        else:
            fit = fit_cpu(drawn, median, sizes, CPUS[len(median)], patch)
        if fit.patch == fit.topology.divisor and len(fit.topology.strides) > 1:  # one voxel alone cannot be normalised
            longest = max(range(len(median)), key=lambda axis: median[axis])
            return replace(fit, patch=tuple(edge * 2 if axis == longest else edge for axis, edge in enumerate(fit.patch)))
        if patch is not None or drawn.features or len(fit.topology.strides) > 1:
            return fit
        tiny = halving(len(median), 2)  # cases of a few voxels are halved once, whatever the rule says
        return replace(fit, topology=tiny, patch=padded(fit.patch, tiny.divisor))


def gpu_of(settings: PlanSettings, device: str) -> Gpu | None:
    """The GPU to plan for: of the memory that the user names, or what nnU-Net plans for if the device has it; None for a CPU."""
    base = RESIDUAL[settings.preset or "M"] if settings.network == "resenc" else PLAIN
    if settings.memory is not None:
        return replace(base, memory=parse_memory(settings.memory))
    return replace(base, memory=min(base.memory, _own_memory(device, base))) if device.startswith("cuda") else None


def _own_memory(device: str, base: Gpu) -> float:
    """Bytes of a GPU, to the nearest gigabyte; those of `base` where there is none to ask."""
    import torch

    if not torch.cuda.is_available():
        return base.memory
    return max(1, round(torch.cuda.get_device_properties(device).total_memory / GIGABYTE)) * GIGABYTE


def _enough(full: Draft) -> str:
    """Why there is no coarser stage."""
    if full.share < ENOUGH:
        return f"a coarser stage would not have {WORTHWHILE:g} times fewer voxels"
    return f"a window sees {full.seen_share} of the median case's voxels, and {ENOUGH:.0%} is enough"


def _because(draft: Draft, why: str) -> Draft:
    return replace(draft, reasons=(*draft.reasons, why))
