"""Predictor: a model, or an ensemble, loaded once and used for many scans."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from voxelry.errors import ModelError, UsageError
from voxelry.model import Model
from voxelry.networks.build import choose_device, compute_dtype
from voxelry.networks.weights import network_of
from voxelry.plan import Normalisation
from voxelry.predict.activation import window_bytes
from voxelry.predict.budget import Choice, Load, choose, resident_memory
from voxelry.predict.cells import Cells
from voxelry.predict.cleanup import clean_array
from voxelry.predict.engine import Copies, Member, stream
from voxelry.predict.forward import Batches
from voxelry.predict.options import PredictOptions
from voxelry.predict.outlet import Outlet, make_ring
from voxelry.predict.region import BLOCK, Region, body, coarse
from voxelry.predict.ring import Cube, Ring
from voxelry.predict.selection import Members
from voxelry.predict.unlike import at_border, unlike_training
from voxelry.predict.windows import Layout, mirrors
from voxelry.prepare.preparation import Preparation, prepare
from voxelry.prepare.stream import Slabs, prepared_slabs, slabs_bytes
from voxelry.volume import LabelMap, Volume

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told how many windows are done, of how many."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels on the scan's own grid, and how far to trust them.

    Attributes:
        labels: the label map.
        confidence: label name -> mean probability (0..1) of that label over the voxels it won on the network's grid, None where
            it won none.
        flags: sentences about anything unusual: a label at the scan's border, a scan unlike those of training.
        map: ``(1, *spatial)`` uint8 on the scan's grid, if asked for: probability of the winner, or entropy as a share of the
            largest possible, 0..255 for 0..1. Outside the box of content the background is certain.
    """

    labels: LabelMap
    confidence: dict[str, float | None]
    flags: tuple[str, ...] = ()
    map: Volume | None = None


class Predictor:
    """Segments scans with one model, or with several that share a plan and labels; safe to call from several threads.

    Args:
        model: the model, or the members of an ensemble.
        device: ``auto``, ``cpu``, ``cuda``...
        options: memory, windows, confidence, backend.

    Attributes:
        members: the networks as functions, by the backend chosen.
        scans: how many scans are to come, by which ``auto`` judges whether building a backend pays.

    Raises:
        ModelError: members of an ensemble differ in plan or labels.
        UsageError: an unknown device or backend, or no model.
    """

    def __init__(self, model: Model | Sequence[Model], device: str = "auto", options: PredictOptions | None = None) -> None:
        self.models = (model,) if isinstance(model, Model) else tuple(model)
        _check_members(self.models)
        self.options = options or PredictOptions()
        self.device = choose_device(device)
        self.networks = [network_of(one, self.device) for one in self.models]
        self.members = Members(
            self.networks, self.device, compute_dtype(self.device, self.options.mixed_precision), self.options.backend
        )
        self.scans = 1

    @property
    def model(self) -> Model:
        """The model, the first of an ensemble."""
        return self.models[0]

    def predict(self, volume: Volume, progress: Progress = lambda *_: None) -> Prediction:
        """Segment one scan.

        Args:
            volume: an image with the model's channels, in any orientation and spacing.
            progress: told of windows done.

        Returns:
            Labels on `volume`'s own grid.

        Raises:
            ModelError: the image has other channels or another number of axes than the model.
            BudgetError: the scan cannot be segmented within the memory budget.
        """
        plan, table = self.model.plan, self.model.labels
        preparation = prepare(volume, plan)
        layout = self._layout(preparation)
        load = self._load(preparation, layout, volume.array.itemsize)
        choice = choose(load, self.options, self.device)
        log.info("%s: %s", volume.source.name, choice)
        ring, choice = self._ring(load, choice)
        target = _Target(preparation, len(table) + 1, self.options.confidence, _memory_order(volume))
        region = self._run(preparation, volume, ring, choice, target, layout, progress)
        confidence = _means(ring, table.names)
        del ring  # what follows needs some memory too
        lookup = table.from_classes(np.arange(len(table) + 1))
        stored = target.stored(lookup)
        rules = {table[rule.label].value: rule for rule in self.model.card.clean_up}
        clean_array(stored, rules, volume.geometry.voxel_volume)
        flags = [*unlike_training(volume, self.model), *at_border(stored, table.id2label)]
        if region is not None and region.is_empty:
            flags.append(f"the {self.options.roi} pass found nothing, so no window was looked at")
        trust = None
        if target.map is not None:
            trust = Volume(target.map[None], volume.geometry, modality="", source=volume.source)
        labels = LabelMap.of(stored, volume.geometry, table, volume.source)
        return Prediction(labels, confidence, tuple(flags), trust)

    @cached_property
    def _window_bytes(self) -> int:
        return window_bytes(self.networks[0], self.model.plan, len(self.model.labels) + 1, self.device)

    def _layout(self, preparation: Preparation) -> Layout:
        plan, options = self.model.plan, self.options
        step = 1 - plan.overlap if options.step is None else options.step
        return Layout.of(preparation.shape, plan.patch_size, step, options.weights)

    def _preparations(self, preparation: Preparation) -> dict[tuple[Normalisation, ...], Preparation]:
        """One for each way in which members scale grey values."""
        return {one.plan.normalisation: replace(preparation, plan=one.plan) for one in self.models}

    def _load(self, preparation: Preparation, layout: Layout, itemsize: int) -> Load:
        """What the scan costs, in bytes; `itemsize` is that of its voxels."""
        plan, classes = self.model.plan, len(self.model.labels) + 1
        voxels, channels = math.prod(preparation.source.shape), len(plan.channels)
        highest = max((label.value for label in self.model.labels.labels), default=0)
        each = (1 if classes <= 256 else 2) + (2 if highest >= 256 > classes - 1 else 0) + bool(self.options.confidence)
        window = self._window_bytes
        if self.options.average == "probabilities":
            window += 4 * classes * math.prod(plan.patch_size)
        return Load(
            layout=layout,
            classes=classes,
            image=sum(
                slabs_bytes(one, channels, itemsize, layout.axis, _slab_depth(layout))
                for one in self._preparations(preparation).values()
            ),
            labels=voxels * (each + (CLEAN_UP_BYTES if self.model.card.clean_up else 0)),
            plane=6 * math.prod(preparation.extent) // preparation.extent[layout.axis],
            window=window,
            resident=resident_memory(),
        )

    def _ring(self, load: Load, choice: Choice) -> tuple[Ring, Choice]:
        """The ring as chosen, or, where a GPU has no room for it after all, in the host's memory, chosen anew."""
        layout = load.layout
        shape = (layout.reach[0] + 1, *layout.shape[1:])
        logits = self.options.average == "logits"
        try:
            device = self.device if choice.ring_on_device else None
            return make_ring(load.classes, shape, layout.weights, half=choice.half, logits=logits, device=device), choice
        except torch.OutOfMemoryError:
            choice = choose(load, self.options, self.device, ring_on_device=False)
            log.info("the device has no room for the ring: %s", choice)
        return make_ring(load.classes, shape, layout.weights, half=choice.half, logits=logits), choice

    def _run(
        self,
        preparation: Preparation,
        volume: Volume,
        ring: Ring,
        choice: Choice,
        target: _Target,
        layout: Layout,
        progress: Progress,
    ) -> Region | None:
        """Run the windows; the region they were kept to, if there was one."""
        plan, options, table = self.model.plan, self.options, self.model.labels
        slabs = {
            scheme: prepared_slabs(one, volume, layout.axis, _slab_depth(layout))
            for scheme, one in self._preparations(preparation).items()
        }
        flips = mirrors(plan.flips if options.flips is None or options.flips else ())
        forwards = self.members.forwards(
            lambda: self._middle(slabs[plan.normalisation], layout), layout.count * len(flips) * len(self.models) * self.scans
        )
        members = [Member(f, slabs[one.plan.normalisation]) for f, one in zip(forwards, self.models, strict=True)]
        copies = Copies(members, flips, table.mirror_classes(), plan.side_axis, options.average == "probabilities")
        outlet = Outlet(ring, target.cube(layout), choice.slab, target.sink(layout), options.confidence)
        batches = Batches(choice.batch)
        region = self._region(layout, copies, batches, progress)
        kept = region.keeps if region is not None else lambda _: True
        stream(layout, copies, ring, outlet, batches, self.device, kept=kept, progress=progress)
        return region

    def _middle(self, slabs: Slabs, layout: Layout) -> torch.Tensor:
        """The window in the middle of the scan, to choose a backend by."""
        sheet = list(layout.sheet(layout.starts[0][len(layout.starts[0]) // 2]))
        return torch.from_numpy(layout.cut(slabs, sheet[len(sheet) // 2]))[None].to(self.device)

    def _region(self, layout: Layout, copies: Copies, batches: Batches, progress: Progress) -> Region | None:
        first = copies.members[0]
        if self.options.roi == "body":
            return body(first.slabs, layout)
        if self.options.roi == "coarse":
            return coarse(first.slabs, layout, first.forward, batches, self.device, progress)
        return None


def _memory_order(volume: Volume) -> Literal["C", "F"]:
    """Fortran's where the scan's first axis is closer in memory than its last."""
    strides = volume.array[0].strides
    return "F" if abs(strides[0]) < abs(strides[-1]) else "C"


def _slab_depth(layout: Layout) -> int:
    """Prepared slices held at a time: a window's, or a block's of a region."""
    return max(layout.reach[0], BLOCK)


CLEAN_UP_BYTES = 6
"""Of a voxel while components are counted."""


class _Target:
    """Where labels land: the scan's own grid, seen in streaming order.

    Memory has the order of the scan's own: files store their first axis closest, and labels are then written as they lie.
    """

    def __init__(self, preparation: Preparation, classes: int, confidence: str, order: Literal["C", "F"]) -> None:
        shape = preparation.source.shape
        self.preparation = preparation
        self.classes = np.zeros(shape, np.uint8 if classes <= 256 else np.uint16, order)
        self.map = np.full(shape, 0 if confidence == "entropy" else 255, np.uint8, order) if confidence else None

    def cube(self, layout: Layout) -> Cube:
        """Cells from the network's grid to the box of content."""
        made, plan = self.preparation, self.preparation.plan
        along = [Cells.of(n, m, order) for n, m, order in zip(made.shape, made.extent, plan.label_orders, strict=True)]
        moved = [along[axis] for axis in layout.order]
        return (moved[0], moved[1], moved[2]) if len(moved) == 3 else (moved[0], Cells.of(1, 1), moved[1])

    def sink(self, layout: Layout) -> Callable[[int, NDArray[np.uint16], NDArray[np.uint8] | None], None]:
        """Puts new slices where they belong."""
        classes = self._seen(self.classes, layout)
        trust = None if self.map is None else self._seen(self.map, layout)

        def keep(first: int, labels: NDArray[np.uint16], some: NDArray[np.uint8] | None) -> None:
            place = slice(first, first + len(labels))
            classes[place] = labels.reshape(classes[place].shape)
            if trust is not None and some is not None:
                trust[place] = some.reshape(trust[place].shape)

        return keep

    def stored(self, lookup: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Class indices turned into stored values, in place where they take as many bytes."""
        if self.classes.dtype != lookup.dtype:
            return lookup[self.classes]
        if not np.array_equal(lookup, np.arange(len(lookup))):
            for plane in self.classes.T if self.classes.flags.f_contiguous else self.classes:
                plane[...] = lookup[plane]
        return self.classes

    def _seen(self, array: NDArray[np.unsignedinteger], layout: Layout) -> NDArray[np.unsignedinteger]:
        """A view of the box of content, axes in streaming order."""
        made = self.preparation
        box = tuple(slice(begin, begin + size) for begin, size in zip(made.start, made.extent, strict=True))
        return made.reorder.apply(array)[box].transpose(layout.order)


def _means(ring: Ring, names: tuple[str, ...]) -> dict[str, float | None]:
    total, won = ring.total, ring.won
    return {name: float(total[i] / won[i]) if won[i] else None for i, name in enumerate(names, start=1)}


def _check_members(models: tuple[Model, ...]) -> None:
    """Members of an ensemble must see scans the same way and mean the same by a class."""
    if not models:
        raise UsageError("no model", remedy="Give at least one model folder.")
    first = models[0]
    for other in models[1:]:
        apart = [name for name in SHARED if getattr(first.plan, name) != getattr(other.plan, name)]
        if first.labels != other.labels:
            apart.append("labels")
        if apart:
            raise ModelError(
                f"{other.path} and {first.path} differ in {', '.join(apart)}",
                remedy="Average models of one plan and one label table.",
            )


SHARED = (
    "dimensions", "channels", "orientation", "spacing", "long_side", "image_order", "coarse_axis", "patch_size",
)  # fmt: skip
"""What members of an ensemble share of their plans: how they lay a scan onto their grid."""
