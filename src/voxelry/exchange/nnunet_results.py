"""plans.json and dataset.json of an nnU-Net results folder, as far as inference needs them, of versions 2.0 to 2.8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from voxelry.base.files import read_json
from voxelry.base.schema import Frozen, parse
from voxelry.errors import MissingFileError, ModelError, UsageError, nearest

_LEGACY_CLASSES = {
    "PlainConvUNet": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "ResidualEncoderUNet": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
"""Network of plans before 2.4 -> its class as later plans name it."""


class _Part(Frozen):
    """A part of a file whose other keys are left alone."""

    model_config = ConfigDict(extra="ignore")


Part = TypeVar("Part", bound=_Part)


class NnunetNetwork(_Part):
    """A network as plans describe it.

    Attributes:
        network_class_name: import path of its class.
        arch_kwargs: its arguments.
    """

    network_class_name: str
    arch_kwargs: dict[str, Any]


class NnunetConfiguration(_Part):
    """One configuration of plans; axes are those of the network.

    Attributes:
        patch_size: voxels along the network's axes, two for slices and pictures.
        batch_size: patches a training step.
        spacing: target mm along the network's axes.
        normalization_schemes: class of each channel's normalisation.
        use_mask_for_norm: whether statistics are of the voxels inside the content, for each channel.
        architecture: the network.
        previous_stage: name of the configuration whose labels are further channels.
        next_stage: names of the configurations that its labels go to.
        resampling_fn_data, resampling_fn_probabilities: names of the functions that resample.
        resampling_fn_data_kwargs, resampling_fn_probabilities_kwargs: their arguments.
    """

    patch_size: tuple[PositiveInt, ...] = Field(min_length=2, max_length=3)
    batch_size: PositiveInt
    spacing: tuple[PositiveFloat, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    architecture: NnunetNetwork
    previous_stage: str | None = None
    next_stage: str | tuple[str, ...] | None = None
    resampling_fn_data: str = "resample_data_or_seg_to_shape"
    resampling_fn_data_kwargs: dict[str, Any] = Field(default_factory=dict)
    resampling_fn_probabilities: str = "resample_data_or_seg_to_shape"
    resampling_fn_probabilities_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.spacing) != len(self.patch_size):
            raise ValueError(
                f"spacing {list(self.spacing)} has not one number for each axis of patch_size {list(self.patch_size)}"
            )
        if len(self.use_mask_for_norm) != len(self.normalization_schemes):
            raise ValueError("use_mask_for_norm and normalization_schemes are not of the same channels")
        return self


def _order_of_axes(value: tuple[int, int, int]) -> tuple[int, int, int]:
    if sorted(value) != [0, 1, 2]:
        raise ValueError(f"{list(value)} is no order of the axes 0, 1, 2")
    return value


class NnunetPlans(_Part):
    """Plans of a dataset.

    Attributes:
        dataset_name: as ``Dataset004_Hippocampus``.
        plans_name: as ``nnUNetPlans``.
        image_reader_writer: class that reads images, which decides the order of their axes.
        transpose_forward: which axis of a read image each axis of the network is.
        configurations: by name.
        foreground_intensity_properties_per_channel: grey values inside labels, by the channel's number.
        original_median_shape_after_transp: voxels of the median case, along the network's axes.
    """

    dataset_name: str
    plans_name: str
    image_reader_writer: str
    transpose_forward: Annotated[tuple[int, int, int], AfterValidator(_order_of_axes)]
    configurations: dict[str, dict[str, Any]]
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]] = Field(default_factory=dict)
    original_median_shape_after_transp: tuple[float, ...] = ()


class NnunetDataset(_Part):
    """dataset.json.

    Attributes:
        channel_names: number -> name of each channel.
        labels: name -> value, or the values of a region.
        regions_class_order: value that the voxels of each region get, where regions are learnt.
        training_cases: how many.
        licence, reference: of the training set, where it says.
    """

    channel_names: dict[Annotated[str, Field(pattern="^[0-9]{1,6}$")], str] = Field(min_length=1)
    labels: dict[str, int | Annotated[tuple[int, ...], Field(min_length=1)]]
    regions_class_order: tuple[int, ...] = ()
    training_cases: int = Field(default=0, alias="numTraining")
    licence: str = ""
    reference: str = ""


def read_plans(folder: Path) -> NnunetPlans:
    """plans.json of a results folder.

    Raises:
        ModelError: it is missing, or no plans of nnU-Net v2.
    """
    content = _read(folder / "plans.json", folder)
    older = content.get("foreground_intensity_properties_by_modality")
    if older is not None:
        content.setdefault("foreground_intensity_properties_per_channel", older)
    return _parsed(NnunetPlans, content, folder / "plans.json")


def read_dataset(folder: Path) -> NnunetDataset:
    """dataset.json of a results folder.

    Raises:
        ModelError: it is missing, or of another layout.
    """
    content = _read(folder / "dataset.json", folder)
    for name in ("licence", "license", "reference"):
        if not isinstance(content.get(name), str):
            content.pop(name, None)
    names = content.get("channel_names", content.get("modality"))
    return _parsed(
        NnunetDataset,
        content | {"channel_names": names, "licence": content.get("licence", content.get("license", ""))},
        folder / "dataset.json",
    )


def configuration_of(plans: NnunetPlans, name: str, where: Path) -> NnunetConfiguration:
    """A configuration with what it inherits from others.

    Args:
        plans: the plans.
        name: such as ``3d_fullres``.
        where: the results folder, for messages.

    Raises:
        ModelError: there is none of this name, it inherits from itself, or it is incomplete.
    """
    content, chain = dict[str, Any](), [name]
    while True:
        if chain[-1] not in plans.configurations:
            raise ModelError(
                f"{where / 'plans.json'}: no configuration '{chain[-1]}'", remedy=nearest(chain[-1], plans.configurations)
            )
        content = plans.configurations[chain[-1]] | content
        parent = plans.configurations[chain[-1]].get("inherits_from")
        if parent is None:
            break
        if parent in chain:
            raise ModelError(
                f"{where / 'plans.json'}: configuration '{name}' inherits from itself", remedy="Copy the folder again."
            )
        chain.append(parent)
    if "architecture" not in content:
        content["architecture"] = _legacy_architecture(content, where)
    return _parsed(NnunetConfiguration, content, where / f"plans.json, {name}")


def _legacy_architecture(content: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The network of plans before 2.4, in the words of later ones."""
    try:
        kind, stages = content["UNet_class_name"], len(content["n_conv_per_stage_encoder"])
        first, most = content["UNet_base_num_features"], content["unet_max_num_features"]
        blocks = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
        arguments = {
            "n_stages": stages,
            "features_per_stage": [min(first * 2**stage, most) for stage in range(stages)],
            "kernel_sizes": content["conv_kernel_sizes"],
            "strides": content["pool_op_kernel_sizes"],
            blocks: content["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": content["n_conv_per_stage_decoder"],
            "conv_bias": True,
        }
        return {"network_class_name": _LEGACY_CLASSES[kind], "arch_kwargs": arguments}
    except (KeyError, TypeError) as error:
        raise ModelError(f"{where / 'plans.json'}: describes no network that is known ({error} is missing)") from error


def _read(file: Path, folder: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except MissingFileError as error:
        inside = sorted(child.name for child in folder.glob("*__*__*") if child.is_dir()) if folder.is_dir() else []
        hint = (
            f"Give one of its folders, such as {folder / inside[0]}."
            if inside
            else "Give TRAINER__PLANS__CONFIGURATION of nnU-Net's results."
        )
        raise ModelError(f"{folder}: no results folder of nnU-Net ({file.name} is missing)", remedy=hint) from error
    except UsageError as error:
        raise ModelError(error.problem, remedy="Copy the folder again.") from error
    return content


def _parsed(kind: type[Part], content: Any, where: Path) -> Part:
    try:
        return parse(kind, content, str(where))
    except UsageError as error:
        raise ModelError(error.problem, remedy="Give a results folder of nnU-Net v2.") from error
