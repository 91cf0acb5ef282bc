"""The `augment` section of a recipe: the keys of all augmentations, and named sets of values."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, create_model, model_serializer, model_validator

from voxelry.augmentation.registry import AUGMENTATIONS, Augmentations
from voxelry.base.schema import Frozen

AUGMENT_SETS: dict[str, dict[str, Any]] = {
    "nnunet": {},
    "light": {
        "rotation_p": 0.3,
        "rotation": 15.0,
        "scale_p": 0.3,
        "scale": (0.8, 1.25),
        "shift_p": 0.3,
        "noise_p": 0.15,
        "blur_p": 0.1,
        "brightness_p": 0.2,
        "contrast_p": 0.2,
        "low_resolution_p": 0.0,
        "inverted_gamma_p": 0.0,
        "gamma_p": 0.2,
        "flip_axes": (),
    },
    "xray": {
        "rotation_p": 0.3,
        "rotation": 15.0,
        "scale_p": 0.3,
        "scale": (0.8, 1.25),
        "shift_p": 0.2,
        "noise_p": 0.2,
        "blur_p": 0.1,
        "brightness_p": 0.2,
        "contrast_p": 0.2,
        "low_resolution_p": 0.1,
        "histogram_p": 0.3,
        "invert_p": 0.05,
        "collimator_p": 0.15,
        "flip_axes": "sides",
    },
    "microscopy": {
        "rotation_p": 0.5,
        "scale_p": 0.5,
        "scale": (0.5, 2.0),
        "noise_p": 0.2,
        "blur_p": 0.2,
        "brightness_p": 0.3,
        "contrast_p": 0.3,
        "low_resolution_p": 0.15,
        "inverted_gamma_p": 0.1,
        "gamma_p": 0.3,
        "gamma_range": (0.5, 2.0),
        "histogram_p": 0.2,
        "invert_p": 0.3,
        "colour_p": 0.4,
    },
}
"""Set -> values in place of the defaults of `voxelry.augmentation.registry.AUGMENTATIONS`, which are nnU-Net's."""

_RADIOGRAPHS = ("CR", "DX", "RG", "MG", "PX", "IO")
_MICROSCOPES = ("GM", "SM")


class AugmentBase(Frozen):
    """Keys of the `augment` section besides those of augmentations.

    Attributes:
        augmentations: augmentations of these keys, in the order in which they are drawn and applied.
    """

    augmentations: ClassVar[Augmentations] = ()

    set: Literal["auto", "nnunet", "light", "xray", "microscopy"] = Field(
        default="auto",
        description="where keys left out get their values: `nnunet` (the defaults here), `light`, `xray`, `microscopy`, below; "
        "`auto`: `xray` for pictures of modality CR, DX, RG, MG, PX or IO, `microscopy` for those of GM or SM, else `light` on a "
        "CPU and `nnunet` on a GPU",
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, tree: Any) -> Any:
        """Keys left out take the values of the set."""
        if not isinstance(tree, dict):
            return tree
        return {**AUGMENT_SETS.get(str(tree.get("set")), {}), **tree}

    @model_serializer(mode="wrap")
    def _plain(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """While the set is not decided only the keys that were given, so that reading back leaves out the same keys."""
        tree: dict[str, Any] = write(self)
        return {key: tree[key] for key in tree if self.set != "auto" or key == "set" or key in self.model_fields_set}

    def chosen(self, modality: str, dimensions: int, device: str) -> AugmentSettings:
        """These settings with ``auto`` decided.

        Args:
            modality: modality of the data, DICOM's term.
            dimensions: 2 for pictures, 3 for volumes.
            device: device that trains, such as ``cpu``.
        """
        assert isinstance(self, AugmentSettings)
        if self.set != "auto":
            return self
        name = "light" if device.startswith("cpu") else "nnunet"
        if dimensions == 2 and modality.upper() in (*_RADIOGRAPHS, *_MICROSCOPES):
            name = "xray" if modality.upper() in _RADIOGRAPHS else "microscopy"
        values = {key: getattr(self, key) for key in self.model_fields_set}
        settings: AugmentSettings = type(self).model_validate({**values, "set": name})
        return settings


def with_keys_of(augmentations: Augmentations) -> type[AugmentBase]:
    """A class of settings with the keys of some augmentations, in their order, behind those of `AugmentBase`."""
    kinds = list(dict.fromkeys(each.settings for each in augmentations))
    bases: Any = (*reversed(kinds), AugmentBase)  # pydantic collects fields from the last base on
    model: type[AugmentBase] = create_model("AugmentKeys", __base__=bases)
    model.augmentations = augmentations
    return model


class AugmentSettings(with_keys_of(AUGMENTATIONS)):  # type: ignore[misc]
    """Random changes to training patches: for each a probability, and a range where it has one.

    The keys are those of all augmentations (docs/reference/augmentation.md). Their defaults are nnU-Net's, which pay off over the
    hundreds of thousands of patches that a GPU sees in a day; over the few thousand that a CPU sees, gentler changes converge
    faster (set ``light``). Chest films and their like are neither rotated by half a circle nor mirrored top to bottom, but come
    from many manufacturers' look-up tables, exposures and collimators, sometimes inverted (set ``xray``). Microscopes show
    cells at any angle and size, bright or dark, grey or dyed (set ``microscopy``).

    Example:
        >>> settings = AugmentSettings(set="light", noise_p=0.5)
        >>> settings.noise_p, settings.rotation
        (0.5, 15.0)
    """
