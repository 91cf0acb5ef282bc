"""The ring as torch operations over slabs, for a GPU; on a CPU it gives what the compiled loops give, voxel for voxel."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelry.inference.patches import Start
from voxelry.inference.ring_buffer import LIMIT, Cube

GATHERED = 1 << 22
"""Values interpolated at a time."""


class DeviceRing:
    """A ring in a device's memory; see `ring.Ring`.

    Args:
        classes: K.
        shape: ``(depth, Y, X)``.
        weights: ``(p, q, r)`` of a window; None where only whole slices are filled in.
        half: keep sums as half floats.
        logits: whether sums are of logits; else of probabilities.
        device: where.
        regions: whether classes are regions, which decide each for itself.
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
    ) -> None:
        self.depth, self.logits, self.device, self.regions = shape[0], logits, device, regions
        self.sums = torch.zeros((classes, *shape), dtype=torch.float16 if half else torch.float32, device=device)
        self.weights = torch.zeros(shape, device=device)
        self.winners = torch.zeros(shape, dtype=torch.int32, device=device)
        self.window = None if weights is None else weights.to(device)
        self._total = torch.zeros(classes, dtype=torch.float64, device=device)
        self._won = torch.zeros(classes, dtype=torch.int64, device=device)

    @property
    def total(self) -> NDArray[np.float64]:
        """Summed probabilities of won voxels, by class."""
        total: NDArray[np.float64] = self._total.cpu().numpy()
        return total

    @property
    def won(self) -> NDArray[np.int64]:
        """Won voxels, by class."""
        won: NDArray[np.int64] = self._won.cpu().numpy()
        return won

    def clear(self, first: int, last: int) -> None:
        """Make room for slices `first` to `last`."""
        for low, high in self._stretches(first, last):
            self.sums[:, low:high] = 0
            self.weights[low:high] = 0

    def add(self, start: Start, dz: int, values: Tensor, scale: float) -> None:
        """Add slices of a window; see `ring.Ring.add`."""
        assert self.window is not None
        (z, y, x), count, done = start, values.shape[1], 0
        height, width = values.shape[2:]
        weights = self.window[dz : dz + count] * scale
        weighted = values.to(self.device).clamp(-LIMIT, LIMIT) * weights
        for low, high in self._stretches(z + dz, z + dz + count):
            place = self.sums[:, low:high, y : y + height, x : x + width]
            place.copy_(place.float() + weighted[:, done : done + high - low])
            done += high - low

    def weigh(self, start: Start) -> None:
        """Count the weights of a window."""
        assert self.window is not None
        z, y, x = start
        depth, height, width = self.window.shape
        done = 0
        for low, high in self._stretches(z, z + depth):
            self.weights[low:high, y : y + height, x : x + width] += self.window[done : done + high - low]
            done += high - low

    def fill(self, first: int, values: NDArray[np.floating]) -> None:
        """Put in finished slices ``(K, n, Y, X)``."""
        for n in range(values.shape[1]):
            slot = (first + n) % self.depth
            self.sums[:, slot] = torch.as_tensor(np.ascontiguousarray(values[:, n])).to(self.device)
            self.weights[slot] = 1

    def finish(self, first: int, last: int) -> None:
        """Sums become means, winners are found."""
        for z in range(first, last):
            slot = z % self.depth
            weight = self.weights[slot]
            inverse = torch.where(weight > 0, 1 / weight, torch.zeros_like(weight))
            self.sums[:, slot] = (self.sums[:, slot].float() * inverse).to(self.sums.dtype)
            values = self.sums[:, slot].float()
            winner = self._winners(values)
            if self.regions:
                share = self._certainty(values)
            else:
                best = values.max(0).values
                sums = (values - best).exp() if self.logits else values.clamp(min=0)
                share = (1 if self.logits else best) / sums.sum(0).clamp(min=1e-30)
            self.winners[slot] = winner.to(torch.int32)
            self._total.index_add_(0, winner.reshape(-1), (share * (winner > 0)).reshape(-1).double())
            self._won.index_add_(0, winner.reshape(-1), (winner > 0).reshape(-1).to(torch.int64))

    def labels(self, cube: Cube, first: int, last: int) -> NDArray[np.uint16]:
        """Class indices of new slices."""
        corners, parts = self._taken(cube, first, last)
        z, y, x = ([axis[:, 0], axis[:, 1]] for axis in corners)
        found = self.winners[z[0]][:, y[0]][:, :, x[0]]
        agree = torch.ones_like(found, dtype=torch.bool)
        for corner in range(1, 8):
            agree &= self.winners[z[corner >> 2]][:, y[corner >> 1 & 1]][:, :, x[corner & 1]] == found
        places = (~agree).nonzero()
        for some in torch.split(places, max(1, GATHERED // len(self.sums))):
            values = self._interpolated(corners, parts, some)
            found[some[:, 0], some[:, 1], some[:, 2]] = self._winners(values).to(torch.int32)
        labels: NDArray[np.uint16] = found.to(torch.int16).cpu().numpy().view(np.uint16)
        return labels

    def trust(self, cube: Cube, first: int, last: int, entropy: bool) -> NDArray[np.uint8]:
        """Probability or entropy of new slices."""
        corners, parts = self._taken(cube, first, last)
        shape = [len(axis) for axis in corners]
        out = torch.empty(shape, dtype=torch.uint8, device=self.device)
        every = torch.ones(shape, dtype=torch.bool, device=self.device).nonzero()
        flat = out.view(-1)
        done = 0
        for some in torch.split(every, max(1, GATHERED // len(self.sums))):
            values = self._interpolated(corners, parts, some)
            if self.regions:
                certain = self._doubt(values) if entropy else self._certainty(values)
            else:
                certain = self._trusted(values, entropy)
            flat[done : done + len(some)] = (certain * 255 + 0.5).to(torch.uint8)
            done += len(some)
        trust: NDArray[np.uint8] = out.cpu().numpy()
        return trust

    def spread(self, cube: Cube, first: int, last: int, share: float, sums: NDArray[np.float32]) -> None:
        """Add the probabilities of new slices, slice by slice."""
        corners, parts = self._taken(cube, first, last)
        shape = [len(axis) for axis in corners[1:]]
        across = torch.ones(shape, dtype=torch.bool, device=self.device).nonzero()
        for index in range(last - first):
            plane = torch.empty((len(self.sums), len(across)), device=self.device)
            done = 0
            for some in torch.split(across, max(1, GATHERED // len(self.sums))):
                places = torch.cat([torch.full_like(some[:, :1], index), some], 1)
                plane[:, done : done + len(some)] = self._shares(self._interpolated(corners, parts, places)) * share
                done += len(some)
            sums[:, index] += plane.cpu().numpy().reshape(len(self.sums), *shape)

    def _shares(self, values: Tensor) -> Tensor:
        """Probabilities ``(K, n)`` of interpolated sums; of regions less one half."""
        if self.regions:
            return values.sigmoid() - 0.5 if self.logits else values
        if self.logits:
            return values.softmax(0)
        shares = values.clamp(min=0)
        return shares / shares.sum(0).clamp(min=1e-30)

    def _winners(self, values: Tensor) -> Tensor:
        """``(...)`` int64 classes of ``(K, ...)``; the lower class wins a tie, on any device."""
        if not self.regions:
            return (values == values.max(0).values).to(torch.uint8).argmax(0)
        above: Tensor = (values > 0) * self._numbers(values)
        return above.amax(0)

    def _trusted(self, values: Tensor, entropy: bool) -> Tensor:
        """Probability of the winner, or entropy as a share of the largest possible."""
        if self.logits:
            logs = values.log_softmax(0)
            shares = logs.exp()
            empty = torch.zeros(values.shape[1:], dtype=torch.bool, device=self.device)
        else:
            shares = values.clamp(min=0)
            empty = shares.sum(0) <= 0
            shares = shares / shares.sum(0).clamp(min=1e-30)
            logs = shares.clamp(min=1e-30).log()
        if entropy:
            return (-(shares * logs).sum(0) / math.log(max(len(values), 2))).clamp(0, 1).masked_fill(empty, 0)
        return shares.max(0).values.masked_fill(empty, 1)

    def _certainty(self, values: Tensor) -> Tensor:
        """Of regions: the probability of the least certain of the decisions that led to the winner."""
        numbers, winner = self._numbers(values)[1:], self._winners(values)
        others = torch.where(numbers > winner, -values[1:], torch.inf)
        apart: Tensor = torch.where(numbers == winner, values[1:], others).amin(0)
        return apart.sigmoid() if self.logits else (apart + 0.5).clamp(max=1)

    def _doubt(self, values: Tensor) -> Tensor:
        """Of regions: the mean entropy of their decisions, as a share of the largest possible."""
        inside = values[1:].sigmoid() if self.logits else values[1:] + 0.5
        shares = torch.stack([inside, 1 - inside]).clamp(min=1e-30)
        return (-(shares * shares.log2()).sum(0).mean(0)).clamp(0, 1)

    def _numbers(self, values: Tensor) -> Tensor:
        return torch.arange(len(values), device=self.device).reshape(-1, *(1,) * (values.ndim - 1))

    def _interpolated(self, corners: list[Tensor], parts: list[Tensor], places: Tensor) -> Tensor:
        """``(K, n)`` float32 at new voxels ``(n, 3)``, added in the order in which the compiled loops add."""
        z, y, x = (axis[places[:, n]] for n, axis in enumerate(corners))
        fz, fy, fx = (part[places[:, n]] for n, part in enumerate(parts))
        w1, w2, w3, w4 = (1 - fz) * (1 - fy), (1 - fz) * fy, fz * (1 - fy), fz * fy

        def row(column: Tensor) -> Tensor:
            one, two = self.sums[:, z[:, 0], y[:, 0], column].float(), self.sums[:, z[:, 0], y[:, 1], column].float()
            three, four = self.sums[:, z[:, 1], y[:, 0], column].float(), self.sums[:, z[:, 1], y[:, 1], column].float()
            return (one * w1 + two * w2) + (three * w3 + four * w4)

        return row(x[:, 0]) * (1 - fx) + row(x[:, 1]) * fx

    def _taken(self, cube: Cube, first: int, last: int) -> tuple[list[Tensor], list[Tensor]]:
        along_z, along_y, along_x = cube
        slots = [
            along_z.slots(first, last, self.depth),
            *(a.slots(0, len(a), n) for a, n in zip((along_y, along_x), self.sums.shape[2:], strict=True)),
        ]
        parts = [along_z.part[first:last], along_y.part, along_x.part]
        return [torch.from_numpy(s).to(self.device) for s in slots], [torch.tensor(p, device=self.device) for p in parts]

    def _stretches(self, first: int, last: int) -> list[tuple[int, int]]:
        """Slices `first` to `last`, at most `depth` of them, as one or two stretches of slots."""
        low, count = first % self.depth, last - first
        if low + count <= self.depth:
            return [(low, low + count)]
        return [(low, self.depth), (0, low + count - self.depth)]
