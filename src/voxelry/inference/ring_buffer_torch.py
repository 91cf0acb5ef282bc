"""Ring buffer in torch operations, for a GPU; on a CPU it gives what the compiled loops give, voxel for voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.inference.linear_interpolation import Interp3d, SlabInterp
from voxelry.inference.patches import Start, summable
from voxelry.inference.ring_buffer import LIMIT, least_certain
from voxelry.networks.classes import class_spans

GATHERED = 1 << 22
"""Values interpolated at a time."""


class DeviceRingBuffer:
    """A ring buffer in a device's memory; see `voxelry.inference.ring_buffer.RingBuffer`.

    Args:
        classes: K.
        shape: ``(depth, Y, X)``.
        weights: ``(p, q, r)`` of a patch; None where only whole slices are filled in.
        half: keep sums as half floats.
        logits: whether sums are of logits; else of probabilities.
        device: where.
        regions: whether classes are regions, which decide each for itself.
        distance: whether the distance of an instance head lies behind the classes.
        layers: of labels on several layers, whose classes are regions too, how many lie on each.
    """

    def __init__(
        self,
        classes: int,
        shape: Start,
        weights: Tensor | None,
        half: bool,
        logits: bool,
        device: torch.device,
        regions: bool = False,
        distance: bool = False,
        layers: Sequence[int] = (),
    ) -> None:
        self.depth, self.logits, self.device, self.regions = shape[0], logits, device, regions
        self.spans, self.layered = class_spans(classes, layers), bool(layers)
        self.channels = torch.zeros((classes + distance, *shape), dtype=torch.float16 if half else torch.float32, device=device)
        self.sums, self.distance = self.channels[:classes], self.channels[classes:]
        self.weights = torch.zeros(shape, device=device)
        self.winners = torch.zeros((len(self.spans), *shape), dtype=torch.int32, device=device)
        weights = summable(weights, half)
        self.patch = None if weights is None else weights.to(device)
        self._total = torch.zeros(classes, dtype=torch.float64, device=device)
        self._won = torch.zeros(classes, dtype=torch.int64, device=device)

    @property
    def probability_sum(self) -> NDArray[np.float64]:
        """Summed probabilities of won voxels, by class."""
        total: NDArray[np.float64] = self._total.cpu().numpy()
        return total

    @property
    def voxel_count(self) -> NDArray[np.int64]:
        """Won voxels, by class."""
        won: NDArray[np.int64] = self._won.cpu().numpy()
        return won

    def clear(self, first: int, last: int) -> None:
        """Set the slots of slices `first` to `last` to 0."""
        for low, high in self._slot_ranges(first, last):
            self.channels[:, low:high] = 0
            self.weights[low:high] = 0

    def add(self, start: Start, dz: int, values: Tensor, scale: float) -> None:
        """Add slices of a patch; see `RingBuffer.add`."""
        assert self.patch is not None
        (z, y, x), count, done = start, values.shape[1], 0
        height, width = values.shape[2:]
        weights = self.patch[dz : dz + count] * scale
        weighted = values.to(self.device).clamp(-LIMIT, LIMIT) * weights
        for low, high in self._slot_ranges(z + dz, z + dz + count):
            sums = self.channels[:, low:high, y : y + height, x : x + width]
            sums.copy_(sums.float() + weighted[:, done : done + high - low])
            done += high - low

    def add_weights(self, start: Start) -> None:
        """Add the weights of a patch."""
        assert self.patch is not None
        z, y, x = start
        depth, height, width = self.patch.shape
        done = 0
        for low, high in self._slot_ranges(z, z + depth):
            self.weights[low:high, y : y + height, x : x + width] += self.patch[done : done + high - low]
            done += high - low

    def fill(self, first: int, values: NDArray[np.floating]) -> None:
        """Put in finished slices ``(C, n, Y, X)``."""
        for n in range(values.shape[1]):
            slot = (first + n) % self.depth
            self.channels[:, slot] = torch.as_tensor(np.ascontiguousarray(values[:, n])).to(self.device)
            self.weights[slot] = 1

    def finish(self, first: int, last: int) -> None:
        """Turn sums into means, and find the winners."""
        for z in range(first, last):
            slot = z % self.depth
            weight = self.weights[slot]
            inverse = torch.where(weight > 0, 1 / weight, torch.zeros_like(weight))
            self.channels[:, slot] = (self.channels[:, slot].float() * inverse).to(self.sums.dtype)
            for span, winners in zip(self.spans, self.winners, strict=True):
                winner, probability = self._won_by(self.sums[span, slot].float())
                winners[slot] = winner.to(torch.int32)
                self._total[span].index_add_(0, winner.reshape(-1), (probability * (winner > 0)).reshape(-1).double())
                self._won[span].index_add_(0, winner.reshape(-1), (winner > 0).reshape(-1).to(torch.int64))

    def _won_by(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The winner of each voxel and its probability, by means of the classes of one layer."""
        winner = self._winners(values)
        if self.regions:
            return winner, self._certainty(values)
        best = values.max(0).values
        sums = (values - best).exp() if self.logits else values.clamp(min=0)
        return winner, (1 if self.logits else best) / sums.sum(0).clamp(min=1e-30)

    def labels(self, interp: Interp3d, first: int, last: int) -> NDArray[np.uint16]:
        """Class indices of new slices."""
        corners, fractions = self._slab(interp, first, last)
        layers = [self._layer_labels(number, corners, fractions) for number in range(len(self.spans))]
        labels: NDArray[np.uint16] = torch.stack(layers).to(torch.int16).cpu().numpy().view(np.uint16)
        return labels

    def _layer_labels(self, number: int, corners: list[Tensor], fractions: list[Tensor]) -> Tensor:
        """``(n, Y', X')`` int32 classes of new slices on one layer."""
        span = self.spans[number]
        z, y, x = ([axis[:, 0], axis[:, 1]] for axis in corners)
        of_layer = self.winners[number]
        winners = of_layer[z[0]][:, y[0]][:, :, x[0]]
        agree = torch.ones_like(winners, dtype=torch.bool)
        for corner in range(1, 8):
            agree &= of_layer[z[corner >> 2]][:, y[corner >> 1 & 1]][:, :, x[corner & 1]] == winners
        contested = (~agree).nonzero()
        for voxels in torch.split(contested, max(1, GATHERED // len(self.sums))):
            values = self._interpolated(corners, fractions, voxels)[span]
            winners[voxels[:, 0], voxels[:, 1], voxels[:, 2]] = self._winners(values).to(torch.int32)
        return torch.where(winners > 0, winners + span.start, 0)

    def confidence(self, interp: Interp3d, first: int, last: int, entropy: bool) -> NDArray[np.uint8]:
        """Probability or entropy of new slices."""
        corners, fractions = self._slab(interp, first, last)
        shape = [len(axis) for axis in corners]
        out = torch.empty([len(self.spans), *shape], dtype=torch.uint8, device=self.device)
        all_voxels = torch.ones(shape, dtype=torch.bool, device=self.device).nonzero()
        flat = out.view(len(self.spans), -1)
        done = 0
        for voxels in torch.split(all_voxels, max(1, GATHERED // len(self.sums))):
            values = self._interpolated(corners, fractions, voxels)
            for layer, span in zip(flat, self.spans, strict=True):
                layer[done : done + len(voxels)] = (self._confidence(values[span], entropy) * 255 + 0.5).to(torch.uint8)
            done += len(voxels)
        return least_certain(out.cpu().numpy(), entropy)

    def _confidence(self, values: Tensor, entropy: bool) -> Tensor:
        """Probability of the winner, or entropy, of the classes of one layer."""
        if not self.regions:
            return self._class_confidence(values, entropy)
        return self._decision_entropy(values) if entropy else self._certainty(values)

    def add_probabilities(self, interp: Interp3d, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add the probabilities of new slices, slice by slice."""
        corners, fractions = self._slab(interp, first, last)
        shape = [len(axis) for axis in corners[1:]]
        across = torch.ones(shape, dtype=torch.bool, device=self.device).nonzero()
        for index in range(last - first):
            plane = torch.empty((len(self.sums), len(across)), device=self.device)
            done = 0
            for pixels in torch.split(across, max(1, GATHERED // len(self.sums))):
                voxels = torch.cat([torch.full_like(pixels[:, :1], index), pixels], 1)
                values = self._interpolated(corners, fractions, voxels)
                plane[:, done : done + len(pixels)] = self._probabilities(values) * share
                done += len(pixels)
            sums[:, index] += plane.cpu().numpy().reshape(len(self.sums), *shape)

    def add_distance(self, interp: Interp3d, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add the distance of new slices, slice by slice; see `head_kernels.add_distance`."""
        corners, fractions = self._slab(interp, first, last)
        shape = [len(axis) for axis in corners[1:]]
        across = torch.ones(shape, dtype=torch.bool, device=self.device).nonzero()
        for index in range(last - first):
            voxels = torch.cat([torch.full_like(across[:, :1], index), across], 1)
            distance = self._interpolated(corners, fractions, voxels, self.distance) * share
            sums[index] += distance.cpu().numpy().reshape(shape)

    def _probabilities(self, values: Tensor) -> Tensor:
        """Probabilities ``(K, n)`` of interpolated sums; of regions less one half."""
        if self.regions:
            return values.sigmoid() - 0.5 if self.logits else values
        if self.logits:
            return values.softmax(0)
        probabilities = values.clamp(min=0)
        return probabilities / probabilities.sum(0).clamp(min=1e-30)

    def _winners(self, values: Tensor) -> Tensor:
        """``(...)`` int64 classes of ``(K, ...)``; the lower class wins a tie, on any device."""
        if not self.regions:
            return (values == values.max(0).values).to(torch.uint8).argmax(0)
        if self.layered:
            values = torch.cat([torch.zeros_like(values[:1]), values[1:]])
            return (values == values.max(0).values).to(torch.uint8).argmax(0)
        above: Tensor = (values > 0) * self._numbers(values)
        return above.amax(0)

    def _class_confidence(self, values: Tensor, entropy: bool) -> Tensor:
        """Probability of the winner, or entropy as a share of the largest possible."""
        if self.logits:
            logs = values.log_softmax(0)
            probabilities = logs.exp()
            empty = torch.zeros(values.shape[1:], dtype=torch.bool, device=self.device)
        else:
            probabilities = values.clamp(min=0)
            empty = probabilities.sum(0) <= 0
            probabilities = probabilities / probabilities.sum(0).clamp(min=1e-30)
            logs = probabilities.clamp(min=1e-30).log()
        if entropy:
            total = -(probabilities * logs).sum(0) / math.log(max(len(values), 2))
            return total.clamp(0, 1).masked_fill(empty, 0)
        return probabilities.max(0).values.masked_fill(empty, 1)

    def _certainty(self, values: Tensor) -> Tensor:
        """Of regions: the probability of the least certain of the decisions that led to the winner; of a layer: of the winner."""
        if self.layered:
            nothing = torch.full_like(values[:1], -torch.inf)
            apart = torch.cat([nothing, values[1:]]).amax(0).abs()
            return apart.sigmoid() if self.logits else (apart + 0.5).clamp(max=1)
        numbers, winner = self._numbers(values)[1:], self._winners(values)
        others = torch.where(numbers > winner, -values[1:], torch.inf)
        apart = torch.where(numbers == winner, values[1:], others).amin(0)
        return apart.sigmoid() if self.logits else (apart + 0.5).clamp(max=1)

    def _decision_entropy(self, values: Tensor) -> Tensor:
        """Of regions: the mean entropy of their decisions, as a share of the largest possible."""
        inside = values[1:].sigmoid() if self.logits else values[1:] + 0.5
        probabilities = torch.stack([inside, 1 - inside]).clamp(min=1e-30)
        return (-(probabilities * probabilities.log2()).sum(0).mean(0)).clamp(0, 1)

    def _numbers(self, values: Tensor) -> Tensor:
        return torch.arange(len(values), device=self.device).reshape(-1, *(1,) * (values.ndim - 1))

    def _interpolated(
        self, corners: list[Tensor], fractions: list[Tensor], voxels: Tensor, means: Tensor | None = None
    ) -> Tensor:
        """``(K, n)`` float32 at new voxels ``(n, 3)``, of classes or other `means`, added in the order of the compiled loops."""
        sums = self.sums if means is None else means
        z, y, x = (axis[voxels[:, n]] for n, axis in enumerate(corners))
        fz, fy, fx = (fraction[voxels[:, n]] for n, fraction in enumerate(fractions))
        w00, w01, w10, w11 = (1 - fz) * (1 - fy), (1 - fz) * fy, fz * (1 - fy), fz * fy

        def row(column: Tensor) -> Tensor:
            row00, row01 = sums[:, z[:, 0], y[:, 0], column].float(), sums[:, z[:, 0], y[:, 1], column].float()
            row10, row11 = sums[:, z[:, 1], y[:, 0], column].float(), sums[:, z[:, 1], y[:, 1], column].float()
            return (row00 * w00 + row01 * w01) + (row10 * w10 + row11 * w11)

        return row(x[:, 0]) * (1 - fx) + row(x[:, 1]) * fx

    def _slab(self, interp: Interp3d, first: int, last: int) -> tuple[list[Tensor], list[Tensor]]:
        """Along S, Y and X: ``(n, 2)`` slots or voxels around each new voxel, and ``(n,)`` how far it lies between them."""
        slab = SlabInterp.of(interp, first, last, self.depth, self.sums.shape[2])
        corners = [slab.slices, slab.rows, interp[2].slots(0, len(interp[2]), self.sums.shape[3])]
        fractions = [slab.slice_fractions, slab.row_fractions, slab.column_fractions]
        return [torch.from_numpy(axis).to(self.device) for axis in corners], [
            torch.tensor(f, device=self.device) for f in fractions
        ]

    def _slot_ranges(self, first: int, last: int) -> list[tuple[int, int]]:
        """Slices `first` to `last`, at most `depth` of them, as one or two ranges of slots."""
        low, count = first % self.depth, last - first
        if low + count <= self.depth:
            return [(low, low + count)]
        return [(low, self.depth), (0, low + count - self.depth)]
