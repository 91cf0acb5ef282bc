"""The training loop, readable in one sitting: AdamW, warm-up and polynomial decay, mixed precision, pseudo-Dice, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from voxelry.config import Config
from voxelry.errors import TrainingError
from voxelry.heap import keep_freed_memory
from voxelry.labels import IGNORE_INDEX
from voxelry.measure.overlap import confusion, dice
from voxelry.networks.build import choose_device, compute_dtype
from voxelry.train.checkpoint import Milestone, RunState, save_checkpoint
from voxelry.train.loss import deep_supervision
from voxelry.train.sampler import Sampler, prefetched

TIMED_STEPS = 24
"""Steps after which a time budget is turned into a number of steps; the first third, which warms caches up, is not timed."""
BUDGET_SHARE = 0.92
"""How much of a time budget is planned for: a run that is cut off misses the end of its learning rate's decay."""
VALIDATION_BATCHES = 6


@dataclass(frozen=True)
class Progress:
    """What a progress line shows.

    Attributes:
        step, total: steps done and planned (None while a time budget is still being turned into steps).
        loss: running mean.
        pseudo_dice: the latest, None before the first.
        seconds_left: estimated, None while unknown.
    """

    step: int
    total: int | None
    loss: float
    pseudo_dice: float | None
    seconds_left: float | None


Report = Callable[[Progress], None]


class Loop:
    """One run: network, optimiser, sampler and the state to resume from."""

    def __init__(
        self, network: nn.Module, config: Config, training: Sampler, validation: Sampler, names: tuple[str, ...], folder: Path
    ) -> None:
        self.device = choose_device(config.device)
        self.config = config
        self.dtype = compute_dtype(self.device, config.mixed_precision)
        self.layout = torch.channels_last_3d if len(training.patch) == 3 else torch.channels_last
        self.network = network.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.training, self.validation = training, validation
        self.names = names
        self.folder = folder
        self.state = RunState(total=config.steps, recipe=config.model_dump_json())
        self.loss = float("nan")

    def restore(self, state: RunState) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingError: it belongs to another recipe or another network.
        """
        if state.recipe != self.state.recipe:
            raise TrainingError(
                f"{self.folder}: the checkpoint was made with another recipe",
                remedy="Resume with the same, or choose another --out.",
            )
        try:
            self.network.load_state_dict(state.network)
            self.optimiser.load_state_dict(state.optimiser)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"{self.folder}: the checkpoint is of another network ({str(error).splitlines()[0]})",
                remedy="Restore plan.yaml as training wrote it, or choose another --out.",
            ) from error
        self.scaler.load_state_dict(state.scaler)
        torch.set_rng_state(state.random)
        self.state = state

    def run(self, report: Report, spent: float = 0.0) -> RunState:
        """Train to the end.

        Args:
            report: called after every step.
            spent: seconds of the time budget that preparation took.

        Returns:
            The final state; the network is in evaluation mode.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        began = time.monotonic() - self.state.seconds
        if not self.state.seconds:
            began -= spent
        marks: list[float] = []
        losses: list[float] = []
        with closing(self._batches(self.state.step, self.state.total or 10**9)) as batches:
            while self.state.total is None or self.state.step < self.state.total:
                rate = self._rate()
                losses.append(self._step(*next(batches), rate))
                self.state.step += 1
                self.state.seconds = time.monotonic() - began
                marks.append(self.state.seconds)
                if self.state.total is None and len(marks) == TIMED_STEPS:
                    self.state.total = self._steps_that_fit(marks)
                if self.config.time_budget is not None and self.state.seconds > self.config.time_budget:
                    self.state.total = self.state.step  # a resumed run ends here too
                if self.state.step == self.state.total or self._is_milestone():
                    self._milestone(losses, rate)
                    losses = []
                report(self._progress(marks))
        self.network.eval()
        return self.state

    def _batches(self, first: int, last: int) -> Generator[tuple[Tensor, Tensor]]:
        """Batches of steps; made ahead by a thread where a GPU computes, in turn where both would want the same cores."""
        if self.device.type == "cuda":
            return prefetched(self.training, first, last)
        return (self.training(step) for step in range(first, last))

    def _step(self, image_BC: Tensor, classes_B: Tensor, rate: float) -> float:
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        image_BC = image_BC.to(self.device, memory_format=self.layout)
        classes_B = classes_B.to(self.device)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            heads = self.network(image_BC)
        loss = deep_supervision(heads, classes_B)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip).item()
        value = loss.item()
        self._check_finite("loss", value)
        if not self.scaler.is_enabled():  # a scaler leaves out steps whose gradient overflows
            self._check_finite("gradient", norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.loss = value if np.isnan(self.loss) else 0.95 * self.loss + 0.05 * value
        return value

    def _check_finite(self, what: str, value: float) -> None:
        if not np.isfinite(value):
            raise TrainingError(f"the {what} became {value} at step {self.state.step + 1}", remedy="Lower learning_rate.")

    def _rate(self) -> float:
        """Warm-up over the steps that are timed anyway, then polynomial decay to zero."""
        step, total = self.state.step, self.state.total
        warm = min(TIMED_STEPS, total or TIMED_STEPS)
        if step < warm:
            return self.config.learning_rate * (step + 1) / warm
        assert total is not None
        return float(self.config.learning_rate * (1 - (step - warm) / max(1, total - warm)) ** self.config.poly)

    def _steps_that_fit(self, marks: list[float]) -> int:
        """How many steps the time budget holds, pseudo-Dice measurements included, by the mean of those timed."""
        assert self.config.time_budget is not None
        step = float(np.mean(np.diff(marks[TIMED_STEPS // 3 :])))
        left = self.config.time_budget - marks[-1] - self.config.validations * VALIDATION_BATCHES * step / 2
        return self.state.step + max(1, int(BUDGET_SHARE * left / step))

    def _is_milestone(self) -> bool:
        return self.state.total is not None and self.state.step % max(1, self.state.total // self.config.validations) == 0

    def _milestone(self, losses: list[float], rate: float) -> None:
        scores = self._pseudo_dice()
        known = [score for score in scores if score is not None]
        self.state.history.append(
            Milestone(
                step=self.state.step,
                loss=float(np.mean(losses)),
                pseudo_dice=float(np.mean(known)) if known else None,
                per_label=dict(zip(self.names, scores, strict=True)),
                seconds=self.state.seconds,
                learning_rate=rate,
            )
        )
        self.state.network = self.network.state_dict()
        self.state.optimiser = self.optimiser.state_dict()
        self.state.scaler = self.scaler.state_dict()
        self.state.random = torch.get_rng_state()
        save_checkpoint(self.state, self.folder)

    @torch.inference_mode()
    def _pseudo_dice(self) -> list[float | None]:
        """Dice of each label over the same few windows every time, None for labels in none of them."""
        self.network.eval()
        count = len(self.names) + 1
        total = np.zeros((count, count), dtype=np.int64)
        for number in range(VALIDATION_BATCHES):
            image_BC, classes_B = self.validation(number)
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                logits_BK = self.network(image_BC.to(self.device, memory_format=self.layout))[0]
            total += confusion(classes_B.numpy(), logits_BK.argmax(1).cpu().numpy(), count, ignore=IGNORE_INDEX)
        return [None if np.isnan(value) else float(value) for value in dice(total)[1:]]

    def _progress(self, marks: list[float]) -> Progress:
        total, left = self.state.total, None
        recent = marks[-50:]
        if total is not None and len(recent) > 2:
            left = (recent[-1] - recent[0]) / (len(recent) - 1) * (total - self.state.step)
        latest = self.state.history[-1].pseudo_dice if self.state.history else None
        return Progress(self.state.step, total, self.loss, latest, left)
