"""Model: plan, card and weights of a trained network; all that inference needs, nothing that executes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PositiveFloat, model_validator

from voxelry.base.schema import Frozen
from voxelry.core.labels import LabelTable
from voxelry.core.plan import Fingerprint, Plan
from voxelry.core.quality_model import QualityModel


class CleanUp(Frozen):
    """Post-processing of one label of a prediction (`voxelry.inference.cleanup`), in this order.

    Attributes:
        label: its name.
        min_mm3: connected components smaller than this (mm^2 in pictures) become background.
        keep_largest: all connected components but the largest become background.
        fill_holes: background that the label encloses becomes the label.

    Example:
        >>> CleanUp(label="liver", min_mm3=500.0, keep_largest=True).fill_holes
        False
    """

    label: str
    min_mm3: PositiveFloat | None = None
    keep_largest: bool = False
    fill_holes: bool = False


class EnsembleCard(Frozen):
    """The description of an ensemble: its members, and what they share.

    Attributes:
        members: folders of the models, relative to that of the ensemble.
        clean_up: rules that every prediction of the ensemble passes through, in place of the members' own.
        training: how the members were trained and chosen, with the scores of the ensemble.
    """

    members: tuple[str, ...] = Field(min_length=1)
    clean_up: tuple[CleanUp, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict)


class ModelCard(Frozen):
    """The description of a model, kept in its folder.

    Attributes:
        name: name of the dataset it was trained on.
        version: version of voxelry that trained it.
        labels: the table of its classes.
        fingerprint: fingerprint of the training set.
        licence, citation: of the training set.
        training: steps, seconds, device, seed and final figures.
        clean_up: rules that every prediction passes through, at most one per label.
        classes: names of the labels that the network tells apart, in order, where it is one of several parts of a model with one
            table; empty for all.

    Example:
        >>> from voxelry.core import Fingerprint, Label, LabelTable
        >>> fingerprint = Fingerprint(
        ...     cases=1, modality="CT", dimensions=2, channels=("CT",), shapes=((8, 8),) * 3, orientations={"picture": 1},
        ...     statistics=(), voxels=64, label_voxels={"liver": 9},
        ... )
        >>> labels = LabelTable(labels=(Label(value=1, name="liver"),))
        >>> ModelCard(name="liver", version="0.1", labels=labels, fingerprint=fingerprint).clean_up
        ()
    """

    name: str
    version: str
    labels: LabelTable
    fingerprint: Fingerprint
    licence: str = ""
    citation: tuple[str, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict)
    clean_up: tuple[CleanUp, ...] = ()
    classes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = [name for name in self.classes if name not in self.labels.names]
        if unknown:
            raise ValueError(f"classes {unknown} are not among the labels")
        return self


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model: its plan, its card, and weights by name.

    Attributes:
        plan: how scans are prepared, and the network's numbers.
        card: labels, fingerprint, licence, training record.
        weights: parameter name -> tensor.
        path: the folder it lies in, None before it was saved.
        previous: the first stage of a cascade, whose labels this second stage starts from.
        quality: what quality control of its predictions needs; None of models trained without it.

    Example:
        >>> from voxelry.core import ModelCard
        >>> from voxelry.core import Fingerprint, Label, LabelTable, NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> fingerprint = Fingerprint(
        ...     cases=1, modality="CT", dimensions=2, channels=("CT",), shapes=((8, 8),) * 3, orientations={"picture": 1},
        ...     statistics=(), voxels=64, label_voxels={"liver": 9},
        ... )
        >>> labels = LabelTable(labels=(Label(value=1, name="liver"),))
        >>> Model(plan, ModelCard(name="liver", version="0.1", labels=labels, fingerprint=fingerprint), weights={}).labels.names
        ('liver',)
    """

    plan: Plan
    card: ModelCard
    weights: dict[str, Any] = field(repr=False)
    path: Path | None = None
    previous: Model | None = None
    quality: QualityModel | None = None

    @property
    def labels(self) -> LabelTable:
        """The table of the model's labels; those of its network's classes are `own_labels`."""
        return self.card.labels

    @property
    def own_labels(self) -> LabelTable:
        """The table of the network's classes: class i + 1 is the i-th label."""
        if not self.card.classes:
            return self.labels
        return LabelTable(labels=tuple(self.labels[name] for name in self.card.classes), ignore=self.labels.ignore)
