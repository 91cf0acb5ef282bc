"""Card: description of a dataset, its licence, citation, channels and labels."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from voxelry.base.files import free_name
from voxelry.base.schema import Frozen, reasons
from voxelry.core.instance_form import InstanceForm
from voxelry.core.label_sequence import LabelSequence
from voxelry.core.labels import Label, LabelTable
from voxelry.core.modalities import modality_term
from voxelry.errors import UsageError, nearest


class Card(Frozen):
    """The description of a dataset, without its cases.

    Attributes:
        name: short name, usable as a file name.
        title, description, homepage: for people; `homepage` says where to get the data.
        modality: DICOM's term (`voxelry.core.modalities`): ``CT``, ``MR``, ``DX``...; other names of these, such as ``MRI``, are
            brought to it.
        dimensions: spatial axes of the images, 2 or 3.
        licence: name of the data's licence.
        citation: publications to cite.
        channels: a name for each image channel, in order.
        reference_channel: the channel on whose grid the others are resampled where grids differ, and on whose grid the labels
            lie; None refuses such cases.
        labels: meaning of the stored values of the masks.
        ignore: a stored value whose voxels enter no loss and no count of voxels.
        sequences: labels that lie in a row (vertebrae, discs, ribs, a dental arch), by name in their order; predictions name the
            objects of a row so that they keep it. ``optional`` lists those that some people lack without a gap (T13, L6, teeth).
        instances: how the references tell objects of things apart; None takes what the files of the cases say, else components.

    Examples:
        >>> from voxelry.datasets import Card
        >>> card = Card(name="liver-ct", modality="CT", labels=({"value": 1, "name": "liver"},))
        >>> card.table.names, card.channels
        (('liver',), ('image',))
    """

    name: str
    title: str = ""
    description: str = ""
    modality: str
    dimensions: Literal[2, 3] = 3
    licence: str = ""
    citation: tuple[str, ...] = ()
    homepage: str = ""
    channels: tuple[str, ...] = Field(default=("image",), min_length=1)
    reference_channel: str | None = None
    labels: tuple[Label, ...] = Field(min_length=1)
    ignore: int | None = None
    sequences: tuple[LabelSequence, ...] = ()
    instances: InstanceForm | None = None

    @field_validator("name")
    @classmethod
    def _file_name(cls, name: str) -> str:
        try:
            return free_name(name)
        except UsageError as error:
            raise ValueError("it cannot be a file name") from error

    @field_validator("modality", mode="before")
    @classmethod
    def _term(cls, modality: Any) -> Any:
        return modality_term(modality) if isinstance(modality, str) else modality

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_are_a_list(cls, labels: Any) -> Any:
        if isinstance(labels, dict) and labels:
            rows = [_row(key, value) for key, value in labels.items()]
            raise ValueError(f"a list is expected; write it as [{', '.join(filter(None, rows))}]")
        return labels

    @model_validator(mode="after")
    def _labels_fit_together(self) -> Self:
        try:
            LabelTable(labels=self.labels, ignore=self.ignore)
        except ValidationError as failure:
            raise ValueError(reasons(failure)) from None
        return self

    @model_validator(mode="after")
    def _sequences_are_of_labels(self) -> Self:
        names, owner = [label.name for label in self.labels], dict[str, str]()
        for sequence in self.sequences:
            for name in sequence.labels:
                if name not in names:
                    raise ValueError(f"'{name}' of sequence '{sequence.name}' is not among the labels. {nearest(name, names)}")
                if name in owner:
                    raise ValueError(f"label '{name}' is in sequences '{owner[name]}' and '{sequence.name}'")
                owner[name] = sequence.name
            if len({label.layer for label in self.labels if label.name in sequence.labels}) > 1:
                raise ValueError(f"the labels of sequence '{sequence.name}' lie on several layers; put them on one")
        return self

    @model_validator(mode="after")
    def _instances_are_of_things(self) -> Self:
        if self.instances is None:
            return self
        if not any(label.kind == "thing" for label in self.labels):
            raise ValueError("instances are asked for, but no label is of kind thing; write `kind: thing` at those to tell apart")
        if self.instances.form == "mask_ids" and len(self.labels) > 1:
            raise ValueError(
                f"instances: mask_ids takes the mask's values for ids, which cannot say which of {len(self.labels)} labels an "
                "object has; give an id map beside a mask of classes (instances: id_map)"
            )
        return self

    @model_validator(mode="after")
    def _reference_is_a_channel(self) -> Self:
        if self.reference_channel is not None and self.reference_channel not in self.channels:
            raise ValueError(
                f"reference_channel '{self.reference_channel}' is not among the channels. "
                + nearest(self.reference_channel, self.channels)
            )
        return self

    @property
    def reference(self) -> int | None:
        """The number, from 0, of the reference channel; None where none is named."""
        return None if self.reference_channel is None else self.channels.index(self.reference_channel)

    @cached_property
    def table(self) -> LabelTable:
        """The labels as the table that reading, training and scoring share."""
        return LabelTable(labels=self.labels, ignore=self.ignore)


def _row(key: Any, value: Any) -> str:
    """One label of a mapping (name to value, or value to name) as a row of a card; empty for the background."""
    number, name = (key, value) if isinstance(key, int) or str(key).isdecimal() else (value, key)
    return "" if str(number) == "0" else f"{{value: {number}, name: {name}}}"
