"""InstanceForm: how a reference says which voxels are one object: a dataset card's key `instances`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from voxelry.base.schema import Frozen

Form = Literal["components", "id_map", "mask_ids", "labels", "polygons", "files"]
"""How a reference tells objects apart; see `InstanceForm`."""

Parts = Literal["keep", "split"]
"""An object in several parts that do not touch is kept as one object, or each part becomes an object."""

_IN_WORDS: dict[Form, str] = {
    "components": "connected parts",
    "id_map": "ids in a file beside the mask",
    "mask_ids": "ids in the mask",
    "labels": "one label an object",
    "polygons": "the objects that the files list",
    "files": "one file an object",
}


class InstanceForm(Frozen):
    """How a reference says which voxels are one object. A card may give `form` alone: ``instances: id_map``.

    Attributes:
        form: ``components``: voxels of one thing that touch (26 neighbours, 8 in pictures) are one object. ``id_map``: a file of
            ids beside the mask, the key `instances` of the cases. ``mask_ids``: the values of the mask are ids, of objects of the
            only label. ``labels``: each label is one object, as L1 to L5. ``polygons``: the file of labels lists objects (COCO,
            Darwin). ``files``: one mask file an object, the key `per_object` of the cases' labels.
        parts: ``keep`` leaves an object in several parts as it is, ``split`` makes each part an object.

    Example:
        >>> InstanceForm.model_validate("mask_ids").form
        'mask_ids'
    """

    form: Form
    parts: Parts = "keep"

    @property
    def in_words(self) -> str:
        """The form in words, such as ``ids in the mask``."""
        return _IN_WORDS[self.form] + (", each part by itself" if self.parts == "split" else "")

    @model_validator(mode="before")
    @classmethod
    def _form_alone(cls, value: Any) -> Any:
        return {"form": value} if isinstance(value, str) else value
