"""The Plan, the labels and the fingerprint of a model that nnU-Net trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxelry.core.labels import Label, LabelTable
from voxelry.core.plan import ChannelStatistics, Configuration, Fingerprint, NetworkPlan, Normalisation, Plan, Region
from voxelry.errors import ModelError
from voxelry.exchange.nnunet_axes import READERS, AxisOrder
from voxelry.exchange.nnunet_names import PLAIN, RESIDUAL
from voxelry.exchange.nnunet_results import NnunetConfiguration, NnunetDataset, NnunetPlans

_NETWORKS = {"PlainConvUNet": PLAIN, "ResidualEncoderUNet": RESIDUAL}
_RESAMPLING, _NO_RESAMPLING = "resample_data_or_seg_to_shape", "no_resampling_hack"
_IMAGE_ORDERS = (0, 1, 3)

WIDEST_KERNEL = 31
"""Voxels of a kernel along an axis; nnU-Net plans 1 and 3."""


def make_imported_plan(
    plans: NnunetPlans,
    configuration: NnunetConfiguration,
    dataset: NnunetDataset,
    mirror_axes: Sequence[int],
    orientation: str | None,
    where: Path,
) -> tuple[Plan, AxisOrder]:
    """The plan of an imported model, and the order that its weights are brought to.

    Args:
        plans: plans.json.
        configuration: the configuration that was trained.
        dataset: dataset.json.
        mirror_axes: the network's axes that patches are mirrored along.
        orientation: of the training scans, where all had one and scans to come may have others; None keeps the reader's.
        where: the results folder, for messages.

    Raises:
        ModelError: a network, reader, normalisation or resampling that is not known.
    """
    try:
        order = AxisOrder.of(plans.image_reader_writer, plans.transpose_forward, len(configuration.patch_size))
    except ModelError as error:
        raise ModelError(f"{where / 'plans.json'}: {error.problem}", remedy=error.remedy) from error
    if orientation is not None and order.dimensions == 2:
        raise ModelError(f"{where}: orientation {orientation} of pictures, which have none", remedy="Leave it out.")
    resampled = _check_resampling(configuration, where)
    network = _network(configuration, order, where)
    return Plan(
        dimensions=2 if order.dimensions == 2 else 3,
        channels=_channels(dataset),
        configuration=_stage(configuration),
        slice_axis=order.slice_axis,
        orientation=orientation or READERS[plans.image_reader_writer],
        spacing=order.per_axis(configuration.spacing, None) if resampled and order.dimensions == 3 else None,
        image_order=_image_order(configuration, where),
        normalisation=tuple(
            _normalisation(plans, configuration, channel, where) for channel in range(len(dataset.channel_names))
        ),
        patch_size=order.per_axis(configuration.patch_size, 1),
        batch_size=configuration.batch_size,
        network=network,
        regions=_regions(dataset, where),
        flips=tuple(sorted(order.ours[axis] for axis in mirror_axes)),
        convention="nnunet",
        reasons=(f"As nnU-Net planned it: {plans.plans_name} of {plans.dataset_name}.",),
    ), order


def make_imported_table(dataset: NnunetDataset, where: Path) -> LabelTable:
    """The labels of dataset.json without background and the value that is ignored; of regions the value of each."""
    names = {_values(value)[0]: name for name, value in dataset.labels.items() if name != "ignore"}
    if _has_regions(dataset):
        order = dataset.regions_class_order
        if len(set(order)) != len(order) or len(order) != len(_region_values(dataset)):
            raise ModelError(
                f"{where / 'dataset.json'}: regions_class_order {list(order)} does not fit its regions",
                remedy="Copy the folder again.",
            )
        names = dict(zip(order, _region_values(dataset), strict=True))
    return LabelTable(labels=tuple(Label(value=value, name=names[value]) for value in sorted(names) if value != 0))


def make_imported_fingerprint(plans: NnunetPlans, dataset: NnunetDataset, order: AxisOrder) -> Fingerprint:
    """What plans and dataset.json say of the training set."""
    median = [max(1, round(size)) for size in plans.original_median_shape_after_transp[-len(order.ours) :]]
    across = max(1, round((plans.original_median_shape_after_transp or (1,))[0]))
    shape = order.per_axis(median, across) if len(median) == len(order.ours) else (1,) * order.dimensions
    channels = _channels(dataset)
    statistics = [plans.foreground_intensity_properties_per_channel.get(str(number), {}) for number in range(len(channels))]
    return Fingerprint(
        cases=dataset.training_cases,
        modality="CT" if all(_is_ct(name) for name in channels) else "OT",
        dimensions=2 if order.dimensions == 2 else 3,
        channels=channels,
        shapes=(shape, shape, shape),
        orientations={},
        statistics=tuple(
            ChannelStatistics(
                mean=each.get("mean", 0.0), std=each.get("std", 0.0),
                p005=each.get("percentile_00_5", 0.0), p995=each.get("percentile_99_5", 0.0),
            )
            for each in statistics
        ),
        voxels=0,
        label_voxels={},
    )  # fmt: skip


def _stage(configuration: NnunetConfiguration) -> Configuration:
    if len(configuration.patch_size) == 2:
        return "2d"
    if configuration.previous_stage is not None:
        return "3d_cascade"
    return "3d" if configuration.next_stage is None else "3d_lowres"


def _channels(dataset: NnunetDataset) -> tuple[str, ...]:
    return tuple(name for _, name in sorted(dataset.channel_names.items(), key=lambda item: int(item[0])))


def _is_ct(channel: str) -> bool:
    return channel.casefold() == "ct"


def _region_values(dataset: NnunetDataset) -> dict[str, tuple[int, ...]]:
    """Name -> values of each region, in the order of dataset.json."""
    values = {name: _values(value) for name, value in dataset.labels.items() if name != "ignore"}
    return {name: value for name, value in values.items() if set(value) != {0}}


def _values(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _has_regions(dataset: NnunetDataset) -> bool:
    """Whether a label has several values; nnU-Net reads regions_class_order, and lists of one value as regions, only then."""
    return any(len(_values(value)) > 1 for value in dataset.labels.values())


def _regions(dataset: NnunetDataset, where: Path) -> tuple[Region, ...]:
    """The regions by the names of the labels that they may give."""
    if not _has_regions(dataset):
        return ()
    if not dataset.regions_class_order:
        raise ModelError(f"{where / 'dataset.json'}: regions without regions_class_order", remedy="Copy the folder again.")
    names = {label.value: label.name for label in make_imported_table(dataset, where).labels}
    regions = zip(_region_values(dataset).items(), dataset.regions_class_order, strict=True)
    return tuple(
        Region(name=name, labels=tuple(names[value] for value in values if value in names) or (names[own],), label=names[own])
        for (name, values), own in regions
    )


def _normalisation(plans: NnunetPlans, configuration: NnunetConfiguration, channel: int, where: Path) -> Normalisation:
    scheme = configuration.normalization_schemes[channel]
    if scheme == "ZScoreNormalization":
        return Normalisation(scheme="mask" if configuration.use_mask_for_norm[channel] else "image")
    if scheme == "NoNormalization":
        return Normalisation(scheme="none")
    if scheme == "RescaleTo01Normalization":
        return Normalisation(scheme="range")
    if scheme == "RGBTo01Normalization":
        return Normalisation(scheme="global", low=0, high=255, mean=0, std=255)
    numbers = plans.foreground_intensity_properties_per_channel.get(str(channel), {})
    if scheme != "CTNormalization" or not {"percentile_00_5", "percentile_99_5", "mean", "std"} <= numbers.keys():
        raise ModelError(f"{where}: normalisation {scheme} of channel {channel} is not known, or its numbers are missing")
    low, high = numbers["percentile_00_5"], numbers["percentile_99_5"]
    return Normalisation(scheme="global", low=low, high=high, mean=numbers["mean"], std=max(numbers["std"], 1e-8))


def _check_resampling(configuration: NnunetConfiguration, where: Path) -> bool:
    """Whether scans are resampled; refuses functions that ours does not follow."""
    functions = {configuration.resampling_fn_data, configuration.resampling_fn_probabilities}
    if functions == {_NO_RESAMPLING}:
        return False
    arguments = [configuration.resampling_fn_data_kwargs, configuration.resampling_fn_probabilities_kwargs]
    unknown = functions - {_RESAMPLING}
    forced = [each for each in arguments if each.get("force_separate_z") is not None or each.get("order_z", 0) != 0]
    if unknown or forced or arguments[1].get("order", 1) != 1:
        what = f"by {sorted(unknown)[0]}" if unknown else f"with {forced[0] if forced else arguments[1]}"
        raise ModelError(
            f"{where}: it resamples {what}, which is not known",
            remedy=f"Models that use {_RESAMPLING} as nnU-Net plans it can be imported.",
        )
    return True


def _image_order(configuration: NnunetConfiguration, where: Path) -> Any:
    order = configuration.resampling_fn_data_kwargs.get("order", 3)
    if order not in _IMAGE_ORDERS:
        raise ModelError(f"{where}: splines of order {order}", remedy=f"Orders that are known: {_IMAGE_ORDERS}.")
    return order


def _network(configuration: NnunetConfiguration, order: AxisOrder, where: Path) -> NetworkPlan:
    kind = configuration.architecture.network_class_name.rpartition(".")[2]
    arguments = configuration.architecture.arch_kwargs
    if kind not in _NETWORKS:
        raise ModelError(
            f"{where}: network {configuration.architecture.network_class_name}",
            remedy=f"Networks that are known: {', '.join(_NETWORKS)}.",
        )
    stages = arguments["n_stages"]
    _check_network(kind, arguments, stages, where)
    residual = _NETWORKS[kind] == RESIDUAL
    return NetworkPlan(
        name=_NETWORKS[kind],
        features=tuple(_each(arguments["features_per_stage"], stages)),
        strides=tuple(order.per_axis(_axes(each, order), 1) for each in _each(arguments["strides"], stages)),
        kernels=tuple(order.per_axis(_axes(each, order), 1) for each in _each(arguments["kernel_sizes"], stages)),
        blocks=tuple(_each(arguments["n_blocks_per_stage"], stages)) if residual else (),
        deep_supervision=stages - 2,
        options={} if residual else {"trans_bias": True, "own_kernels": True},
    )


def _check_network(kind: str, arguments: Mapping[str, Any], stages: int, where: Path) -> None:
    """Refuse numbers that our network of this kind does not have."""
    residual = _NETWORKS[kind] == RESIDUAL
    norm, act = arguments.get("norm_op_kwargs") or {}, arguments.get("nonlin_kwargs") or {}
    wrong = {
        "n_conv_per_stage": not residual and set(_each(arguments.get("n_conv_per_stage"), stages)) != {2},
        "n_conv_per_stage_decoder": set(_each(arguments.get("n_conv_per_stage_decoder"), stages - 1)) != {1 if residual else 2},
        "conv_bias": arguments.get("conv_bias") is not True,
        "norm_op": "InstanceNorm" not in str(arguments.get("norm_op", "InstanceNorm")),
        "norm_op_kwargs": norm.get("affine", True) is not True or norm.get("eps", 1e-5) != 1e-5,
        "dropout_op": arguments.get("dropout_op") is not None,
        "nonlin": str(arguments.get("nonlin", "LeakyReLU")).rpartition(".")[2] != "LeakyReLU",
        "nonlin_kwargs": act.get("negative_slope", 0.01) != 0.01,
        "nonlin_first": bool(arguments.get("nonlin_first")),
        "block": not str(arguments.get("block", "BasicBlockD")).endswith("BasicBlockD"),
        "bottleneck_channels": arguments.get("bottleneck_channels") is not None,
        "stem_channels": arguments.get("stem_channels") not in (None, _each(arguments["features_per_stage"], stages)[0]),
        "n_stages": stages < 3,
        "kernel_sizes": max(max(_each(each, 1)) for each in _each(arguments["kernel_sizes"], stages)) > WIDEST_KERNEL,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ModelError(
                f"{where}: {kind} with {name} {arguments.get(name)}",
                remedy="Networks as nnU-Net's own planners make them can be imported.",
            )


def _each(value: Any, count: int) -> list[Any]:
    """One value for each stage."""
    return [value] * count if isinstance(value, int) else list(value or ())


def _axes(value: Any, order: AxisOrder) -> tuple[int, ...]:
    """One number for each axis of the network."""
    return (value,) * len(order.ours) if isinstance(value, int) else tuple(value)
