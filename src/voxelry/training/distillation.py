"""Distillation: a network learns from the probabilities of a trained model, the teacher, beside the references.

Each step asks one network of the teacher, drawn at random, about the same patches, mirrored as the teacher mirrors at inference.
The cross-entropy is linear in the target, so the mean gradient is that of the whole ensemble with all its mirrored passes
(Hinton et al. 2015), at the cost of one forward pass. The overlap term is the Dice semimetric loss (Wang et al. 2023), which is 0
where student and teacher agree; soft Dice is not.

Shape legend: B batch, K channels (background first), N voxels of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from voxelry.core.labels import LabelTable
from voxelry.core.model import Model
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError
from voxelry.inference.forward import optimised_for_cpu
from voxelry.inference.patches import mirror_sets
from voxelry.networks.build import head_channels, output_classes
from voxelry.networks.mirrored_passes import mirrored_axes, mirrored_channels
from voxelry.networks.weights import network_of
from voxelry.recipes.settings import LossSettings
from voxelry.training.instance_loss import CORNER

SHARED_FIELDS = (
    "dimensions", "channels", "reference_channel", "configuration", "slice_axis", "orientation", "spacing", "long_side",
    "image_order", "coarse_axis", "normalisation", "regions", "convention",
)  # fmt: skip
"""Fields of a plan that student and teacher must share, or the same patch would be another to each."""

SMOOTH = 1.0
"""Voxels added to the denominator of the overlap term: a class that neither sees has no weight."""


class Teacher:
    """A trained model, or an ensemble, that answers with logits for patches.

    Args:
        models: its members.
        plan: plan of the student.
        table: labels of the student.
        device: device to compute on.
        dtype: type of the convolutions.
        seed: seed of the draws.

    Raises:
        ConfigError: its scans are prepared in another way, its labels or objects are others, or it is a cascade.
    """

    def __init__(
        self, models: Sequence[Model], plan: Plan, table: LabelTable, device: torch.device, dtype: torch.dtype, seed: int
    ) -> None:
        for model in models:
            _check_fits(model, plan, table)
        networks = [network_of(model, device) for model in models]
        self.networks = [optimised_for_cpu(network) for network in networks] if device.type == "cpu" else networks
        self.mirrors = [mirror_sets(mirrored_axes(model.plan, table)) for model in models]
        self.plan, self.device, self.dtype, self.seed = plan, device, dtype, seed
        channels = output_classes(plan, len(table) + 1) + head_channels(plan)
        self.swapped = [mirrored_channels(model.plan, table, channels) for model in models]

    def __call__(self, image_BC: Tensor, *number: int) -> Tensor:
        """Logits of one member, drawn by the number of the step: ``(B, K + H, *patch)``, float32, without gradient.

        Args:
            image_BC: ``(B, C, *patch)`` prepared and augmented.
            number: of the step, and of the batch in it; the same number draws the same member and mirroring.
        """
        draw = np.random.default_rng((self.seed, *number))
        member = int(draw.integers(len(self.networks)))
        axes = self.mirrors[member][int(draw.integers(len(self.mirrors[member])))]
        along = [axis + 2 for axis in axes]
        with torch.no_grad(), torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            logits: Tensor = self.networks[member](image_BC.flip(along) if along else image_BC)[0]
        logits = logits.float()
        if not along:
            return logits
        upright = logits.flip(along)
        return upright[:, self.swapped[member]] if self.plan.side_axis in axes else upright


def distillation_loss(logits_BK: Tensor, taught_BK: Tensor, settings: LossSettings, plan: Plan, classes: int) -> Tensor:
    """How far a student's logits are from its teacher's: divergence plus overlap, 0 where they agree.

    Args:
        logits_BK: ``(B, K + H, *patch)``, the student's finest head.
        taught_BK: the same shape, the teacher's.
        settings: with the weight of the instance head.
        plan: plan of the student.
        classes: K.

    Returns:
        A scalar, float32.
    """
    student, teacher = logits_BK.float().flatten(2), taught_BK.float().flatten(2)
    if plan.regions:
        loss = _binary(student[:, 1:classes], teacher[:, 1:classes])
    else:
        loss = _exclusive(student[:, :classes], teacher[:, :classes])
    if student.shape[1] == classes:
        return loss
    distance = functional.smooth_l1_loss(student[:, classes + 2 :], teacher[:, classes + 2 :], beta=CORNER)
    return loss + settings.instances * (_binary(student[:, classes : classes + 2], teacher[:, classes : classes + 2]) + distance)


def _exclusive(student_BKN: Tensor, teacher_BKN: Tensor) -> Tensor:
    """Of classes that exclude each other: Kullback-Leibler divergence of the softmax, and overlap without the background."""
    log_p, log_q = student_BKN.log_softmax(1), teacher_BKN.log_softmax(1)
    divergence = functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1).mean()
    return divergence + _disagreement(log_p[:, 1:].exp(), log_q[:, 1:].exp())


def _binary(student_BKN: Tensor, teacher_BKN: Tensor) -> Tensor:
    """Of channels that are each a probability of its own, by sigmoid."""
    wanted = teacher_BKN.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(teacher_BKN, wanted)
    divergence = functional.binary_cross_entropy_with_logits(student_BKN, wanted) - entropy
    return divergence + _disagreement(student_BKN.sigmoid(), wanted)


def _disagreement(student_BKN: Tensor, teacher_BKN: Tensor) -> Tensor:
    """The Dice semimetric loss of each class over the batch, a mean over classes."""
    apart = (student_BKN - teacher_BKN).abs().sum((0, 2))
    return (apart / (student_BKN.sum((0, 2)) + teacher_BKN.sum((0, 2)) + SMOOTH)).mean()


def _check_fits(model: Model, plan: Plan, table: LabelTable) -> None:
    """Refuse a teacher whose patches or outputs are others.

    Raises:
        ConfigError: they are.
    """
    where = f"the teacher {model.path}" if model.path else "the teacher"
    if "3d_cascade" in (model.plan.configuration, plan.configuration):
        raise ConfigError(f"{where}: a cascade's second stage cannot teach", remedy="Take the model of a single stage.")
    if model.labels != table:
        raise ConfigError(f"{where}: its labels are not those of the data", remedy="Take a model of the same card.")
    differing = [name for name in SHARED_FIELDS if getattr(model.plan, name) != getattr(plan, name)]
    if model.plan.instances != plan.instances:
        differing.append("instances")
    if differing:
        name = differing[0]
        raise ConfigError(
            f"{where}: its plan differs from the student's in {', '.join(differing)} "
            f"({name}: {getattr(model.plan, name)}, the student's {getattr(plan, name)})",
            remedy="Give the student the teacher's plan (voxelry compress does so).",
        )
