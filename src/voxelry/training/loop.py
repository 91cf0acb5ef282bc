"""The training loop: steps, milestones with pseudo-Dice, full-volume validation, checkpoints, early stopping.

It trains until the run's length is reached. Its parts have modules of their own: `sampler` and `prefetch` (batches), `loss`,
`optimiser`, `average` (of the weights), `length` (number of steps), `stopping`, `checkpoint` (files) and `tracking`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from voxelry.base.device import choose_device
from voxelry.base.malloc import keep_freed_memory
from voxelry.base.progress import StepCallback, TrainingStep
from voxelry.core.labels import LabelTable
from voxelry.core.plan import Plan
from voxelry.errors import TrainingError
from voxelry.networks.build import output_classes
from voxelry.networks.cost import training_dtype
from voxelry.recipes.recipe import Config, parse_config
from voxelry.training.average import WeightAverage
from voxelry.training.checkpoint import LossFile, Milestone, RunState, save_checkpoint
from voxelry.training.determinism import arithmetic, random_states, restore_random_states, restore_threads
from voxelry.training.distillation import Teacher, distillation_loss
from voxelry.training.length import TrainingLength, recipe_steps
from voxelry.training.loss import make_loss
from voxelry.training.memory_format import training_formats
from voxelry.training.optimiser import learning_rate, make_optimiser
from voxelry.training.prefetch import Batch, BatchLoader
from voxelry.training.pseudo_dice import PseudoDice
from voxelry.training.run_files import refuse_other_recipe
from voxelry.training.sampler import Sampler
from voxelry.training.stopping import is_best, is_over
from voxelry.training.torch_compile import CompiledNetwork
from voxelry.training.tracking import Tracking

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 300.0
"""A checkpoint is written at least this often: a killed run loses no more."""
VALIDATION_SHARE = 0.05
"""Share of the time that full-volume validation may take."""
SMOOTHING = 0.95
"""Weight of the past in the running mean of the loss that progress shows."""


Validate = Callable[[nn.Module, float], float | None]
"""``(network, seconds)`` -> mean Dice of whole validation cases, None where there is none; the network is in evaluation mode,
`seconds` is the time trained so far."""


class TrainingLoop:
    """The training of one network: network, optimiser, sampler and the state to resume from.

    Args:
        network: with the weights to start from; it is trained in place and ends with the weights to keep.
        config: the recipe.
        plan: plan of the network.
        table: the labels.
        training: makes the batch of a number.
        validation: makes the patches for pseudo-Dice.
        folder: folder of checkpoint, history and losses.
        augment: augments a batch on the device that trains, by its number; None where the sampler does it.
        validate: full-volume validation, called at some milestones; None leaves it out.
        teacher: a trained model whose answers are learnt too; None learns from the references alone.
    """

    def __init__(
        self,
        network: nn.Module,
        config: Config,
        plan: Plan,
        table: LabelTable,
        training: Sampler,
        validation: Sampler,
        folder: Path,
        augment: Callable[[Tensor, Tensor, int], Batch] | None = None,
        validate: Validate | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.teacher, self.classes = teacher, output_classes(plan, len(table) + 1)
        self.config, self.plan, self.folder, self.validate = config, plan, folder, validate
        self.device = choose_device(config.device)
        self.dtype = training_dtype(network, plan, len(table) + 1, self.device, config.mixed_precision)
        axes = len(training.patch)
        network_layout, layout = training_formats(axes if plan.slice_axis is None else 2, axes, self.device, self.dtype)
        self.network = network.to(self.device, memory_format=network_layout)  # type: ignore[call-overload]
        self.compiled = CompiledNetwork(self.network, config.compile, self.device)
        self.criterion = make_loss(config.loss, plan, table)
        self.weights = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = make_optimiser(self.network, config.optimiser)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.average = WeightAverage(self.network, config.optimiser.ema)
        self.loader = BatchLoader(training, self.device, layout, augment)
        self.measure = PseudoDice(validation, plan, table)
        patches = training.batch * config.optimiser.accumulate
        self.length = TrainingLength(config, recipe_steps(config, len(training.cases), patches))
        self.state = RunState(recipe=config.model_dump_json())
        self.saved = self.since = 0.0  # seconds of the last checkpoint, and of the last milestone

    def restore(self, state: RunState) -> None:
        """Resume from a checkpoint.

        Raises:
            TrainingError: it belongs to another recipe or network.
        """
        refuse_other_recipe(self.folder, parse_config(json.loads(state.recipe), str(self.folder)), self.config)
        try:
            self.network.load_state_dict(state.network)
            self.optimiser.load_state_dict(state.optimiser)
            self.average.load_state_dict(state.average)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"{self.folder}: the checkpoint is of another network ({str(error).splitlines()[0]})",
                remedy="Restore plan.yaml as training wrote it, or choose another --out.",
            ) from error
        if state.scaler:  # a run that began in another type had none
            self.scaler.load_state_dict(state.scaler)
        restore_random_states(state.random, self.device)
        if self.device.type == "cpu":
            restore_threads(state.threads)
        self.state = state

    def run(self, on_step: StepCallback, spent: float = 0.0) -> RunState:
        """Train to the end.

        Args:
            on_step: called after every step.
            spent: seconds of the time budget that preparation took.

        Returns:
            The final state. The network is in evaluation mode with the weights to keep: the last ones or, with early stopping,
            the best; averaged where the recipe says so.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        state = self.state
        state.threads = torch.get_num_threads()
        began = time.monotonic() - (state.seconds or spent)
        self.saved, self.since = state.seconds, state.seconds or spent
        self.length.start(state)
        with (
            arithmetic(self.device, self.config.deterministic),
            LossFile(self.folder, state.step) as losses,
            Tracking(self.config, self.plan, self.folder, state) as tracking,
            closing(self.loader.batches(state.step * self.config.optimiser.accumulate)) as batches,
        ):
            self.network.train()
            while state.total is None or state.step < state.total:
                rate = learning_rate(self.config.optimiser, state.step, self.length.warm_up, self.length.decay(state))
                loss = self._step(batches, rate)
                self._count(loss)
                losses.add(state.step, loss, rate)
                tracking.step(state, rate)
                self.length.add_step(time.monotonic() - began - state.seconds)
                state.seconds = time.monotonic() - began
                revised = self.length.revise(state)
                if state.step == state.total or self._is_milestone():
                    self._milestone(rate)
                    tracking.milestone(state)
                    self.length.add_milestone(time.monotonic() - began - state.seconds)
                    self.since = state.seconds = time.monotonic() - began
                    self._save()
                elif revised or state.seconds - self.saved >= CHECKPOINT_SECONDS:
                    self._save()
                on_step(self._training_step())
        self._use_final_weights()
        return state

    def _step(self, batches: Generator[Batch], rate: float) -> float:
        """One step of the optimiser by the mean gradient of the batches that the recipe accumulates; returns their mean loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        losses = [self._gradients(*next(batches), number) for number in range(self.config.optimiser.accumulate)]
        self.scaler.unscale_(self.optimiser)
        length = nn.utils.clip_grad_norm_(self.weights, self.config.optimiser.clip)
        loss, norm = torch.stack([torch.stack(losses).mean(), length]).tolist()  # the only point at which a step waits for a GPU
        self._check_finite("loss", loss)
        if not self.scaler.is_enabled():  # a scaler skips steps whose gradient overflows
            self._check_finite("gradient", norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.average.update(self.state.step + 1)
        return float(loss)

    def _gradients(self, image_BC: Tensor, classes_B: Tensor, number: int) -> Tensor:
        """The loss of a step's batch of a number; its gradients are added to those of the batches before it."""
        taught = None if self.teacher is None else self.teacher(image_BC, self.state.step, number)

        def passes(network: Callable[[Tensor], list[Tensor]]) -> Tensor:
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                heads = network(image_BC)
            loss: Tensor = self.criterion(heads, classes_B)
            if taught is not None:
                share = self.config.loss.distillation
                learnt = distillation_loss(heads[0], taught, self.config.loss, self.plan, self.classes)
                loss = (1 - share) * loss + share * learnt
            self.scaler.scale(loss / self.config.optimiser.accumulate).backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        return self.compiled.run(passes)

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            other = "" if self.dtype == torch.float32 else ", or set mixed_precision to off"
            raise TrainingError(
                f"the {what} became {value} at step {self.state.step + 1}", remedy=f"Lower optimiser.learning_rate{other}."
            )

    def _count(self, loss: float) -> None:
        """Record a step."""
        state = self.state
        state.step += 1
        state.losses = state.losses[0] + loss, state.losses[1] + 1
        state.smooth_loss = loss if state.smooth_loss is None else SMOOTHING * state.smooth_loss + (1 - SMOOTHING) * loss

    def _is_milestone(self) -> bool:
        """Milestones are spread evenly over the steps, even when the number of steps was revised in between."""
        history, total = self.state.history, self.state.total
        last = history[-1].step if history else 0
        remaining = max(1, self.config.validations - len(history))
        return total is not None and self.state.step >= last + max(1, round((total - last) / remaining))

    def _milestone(self, rate: float) -> None:
        """Measure pseudo-Dice and validation, and end training where it has not improved for `patience` milestones."""
        state = self.state
        random = random_states(self.device)
        self.network.eval()
        with self.average.applied() if self.average.decay else nullcontext():
            per_label = self.measure(self.network, self.device, self.dtype)
            validation = self._full_volume_dice()
            known = [score for score in per_label.values() if score is not None]
            milestone = Milestone(
                step=state.step,
                loss=state.losses[0] / state.losses[1],
                pseudo_dice=math.fsum(known) / len(known) if known else None,
                per_label=per_label,
                seconds=state.seconds,
                learning_rate=rate,
                validation=validation,
                waited=round(self.loader.waited / max(1e-9, state.seconds - self.since), 4),
            )
            state.history.append(milestone)
            if self.config.patience is not None and is_best(state.history):
                state.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.train()
        restore_random_states(random, self.device)
        state.losses, self.loader.waited = (0.0, 0), 0.0
        if is_over(state.history, self.config.patience):
            log.info("no improvement for %d milestones: training ends at step %d", self.config.patience, state.step)
            self.length.end(state)

    def _full_volume_dice(self) -> float | None:
        """Full-volume Dice at every n-th milestone, n chosen so that validation takes `VALIDATION_SHARE` of the time."""
        state = self.state
        number = len(state.history)
        if self.validate is None or (state.validation_interval and number % state.validation_interval):
            return None
        began = time.monotonic()
        score = self.validate(self.network, state.seconds)
        if not state.validation_interval:
            between = state.seconds / (number + 1)
            state.validation_interval = max(1, math.ceil((time.monotonic() - began) / (VALIDATION_SHARE * max(1e-9, between))))
        return score

    def _save(self) -> None:
        state = self.state
        state.network = self.network.state_dict()
        state.optimiser = self.optimiser.state_dict()
        state.scaler = self.scaler.state_dict()
        state.average = self.average.state_dict()
        state.random = random_states(self.device)
        save_checkpoint(state, self.folder)
        self.saved = state.seconds

    def _use_final_weights(self) -> None:
        """Give the network the weights to keep."""
        self.network.eval()
        if self.state.best:
            self.network.load_state_dict(self.state.best)
        elif self.average.decay:
            self.network.load_state_dict(self.average.state_dict(), strict=False)

    def _training_step(self) -> TrainingStep:
        state = self.state
        latest = state.history[-1].pseudo_dice if state.history else None
        assert state.smooth_loss is not None
        return TrainingStep(state.step, state.total, state.smooth_loss, latest, self.length.seconds_left(state))
