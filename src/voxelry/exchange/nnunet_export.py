"""Writes a model as an nnU-Net v2 results folder, which nnU-Net segments with, where it has the same network.

nnU-Net knows plain and residual U-Nets, one orientation (RAS) and labels that are numbered through. Decoder stages of our plain
U-Net have the kernel of the next coarser stage, nnU-Net's that of their own: where these differ, the encoder's kernels are padded
with zeros to the larger, which computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from voxelry.base.files import write_json
from voxelry.base.library_file import library_file
from voxelry.base.progress import ProgressCallback
from voxelry.core.model import Model
from voxelry.core.plan import NetworkPlan, Normalisation, Plan
from voxelry.errors import ExportError
from voxelry.exchange.agreement import Agreement, TestScan, compare_networks, refuse_disagreement
from voxelry.exchange.nnunet_axes import PICTURE_READER, AxisOrder
from voxelry.exchange.nnunet_import import import_results
from voxelry.exchange.nnunet_names import PLAIN, RESIDUAL, parameter_names, stage_blocks
from voxelry.inference.forward import Forward, torch_forward
from voxelry.networks.weights import network_of

TRAINER, PLANS = "nnUNetTrainer", "nnUNetPlans"
_CLASSES = {PLAIN: "PlainConvUNet", RESIDUAL: "ResidualEncoderUNet"}
_SCHEMES = {
    "global": "CTNormalization", "image": "ZScoreNormalization", "mask": "ZScoreNormalization",
    "range": "RescaleTo01Normalization", "none": "NoNormalization",
}  # fmt: skip
_RESAMPLING: dict[str, Any] = {
    f"resampling_fn_{kind}{tail}": value
    for kind, order, is_seg in (("data", 3, False), ("seg", 1, True), ("probabilities", 1, False))
    for tail, value in (
        ("", "resample_data_or_seg_to_shape"),
        ("_kwargs", {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}),
    )
}


def write_results(models: Sequence[Model], folder: Path) -> Path:
    """Write models as folds of one configuration; the first stage of a cascade beside it.

    Args:
        models: the model, or the members of an ensemble of one plan.
        folder: holds ``TRAINER__PLANS__CONFIGURATION`` afterwards.

    Returns:
        The results folder.

    Raises:
        ExportError: nnU-Net has no such network, labels, orientation or preparation; or members differ in their plans.
    """
    for model in models:
        _check(model, models[0])
    plan = models[0].plan
    name = {"2d": "2d", "3d": "3d_fullres", "3d_lowres": "3d_lowres", "3d_cascade": "3d_cascade_fullres"}[plan.configuration]
    configurations = {name: _configuration(models[0], None)}
    firsts = [model.previous for model in models if model.previous is not None]
    if firsts:
        for model in firsts:
            _check(model, firsts[0])
        configurations = {
            "3d_lowres": _configuration(firsts[0], None) | {"next_stage": name},
            name: _configuration(models[0], "3d_lowres"),
        }
        _write_folds(firsts, "3d_lowres", folder, configurations)
    return _write_folds(models, name, folder, configurations)


def export_nnunet(models: Sequence[Model], source: Path, target: Path, scan: TestScan, progress: ProgressCallback) -> Agreement:  # noqa: ARG001 - as every exporter
    """Write models as `write_results` does, and test that the networks, imported again, give the same labels.

    Args:
        models: the model, or the members of an ensemble of one plan.
        source: their folder.
        target: an empty folder.
        scan: what to segment for the test.
        progress: called as networks are written.

    Raises:
        ExportError: as `write_results`; or other labels.
    """
    progress("networks", 0, len(models))
    copies = import_results(write_results(models, target))
    forwards: dict[Model, Forward] = {}
    for model, copy in zip(models, copies, strict=True):
        forwards[model] = _forward_of(copy)
        if model.previous is not None and copy.previous is not None:
            forwards[model.previous] = _forward_of(copy.previous)
    progress("networks", len(models), len(models))
    agreement = compare_networks(tuple(models), forwards, scan)
    refuse_disagreement(agreement, "nnU-Net")
    return agreement


def _forward_of(model: Model) -> Forward:
    cpu = torch.device("cpu")
    return torch_forward(network_of(model, cpu), cpu, torch.float32)


def _write_folds(models: Sequence[Model], name: str, folder: Path, configurations: Mapping[str, Any]) -> Path:
    results = folder / f"{TRAINER}__{PLANS}__{name}"
    plans, dataset = _plans(models[0], configurations), _dataset(models[0])
    write_json(results / "plans.json", plans)
    write_json(results / "dataset.json", dataset)
    for number, model in enumerate(models):
        checkpoint = {
            "network_weights": _weights(model),
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {},
            "_best_ema": None,
            "current_epoch": 0,
            "init_args": {"plans": plans, "configuration": name, "fold": number, "dataset_json": dataset},
            "trainer_name": TRAINER,
            "inference_allowed_mirroring_axes": _mirrored(model.plan),
        }
        target = results / f"fold_{number}" / "checkpoint_final.pth"
        target.parent.mkdir(parents=True, exist_ok=True)
        with library_file(target) as file:
            torch.save(checkpoint, file)
    return results


def _check(model: Model, first: Model) -> None:
    """Refuse what nnU-Net cannot hold."""
    plan, where = model.plan, model.path or model.card.name
    refused = {
        f"network '{plan.network.name}'": plan.network.name not in _CLASSES,
        "objects told apart (instances)": plan.instances is not None,
        "rows of labels (sequences)": bool(plan.sequences),
        "labels on several layers": model.labels.layers > 1,
        f"pictures scaled to a long side of {plan.long_side}": plan.long_side is not None,
        f"orientation {plan.orientation}": plan.orientation not in (None, "RAS"),
        f"another plan than {first.path or first.card.name}": plan != first.plan,
        "a first stage for some members only": (model.previous is None) != (first.previous is None),
    }
    for what, is_refused in refused.items():
        if is_refused:
            raise ExportError(f"{where}: nnU-Net has no {what}", remedy="Export to ONNX or a MONAI bundle instead.")


def _order(plan: Plan) -> AxisOrder:
    """nnU-Net's usual order of axes: that of its readers, slices first."""
    if plan.dimensions == 2:
        return AxisOrder.of(PICTURE_READER, (0, 1, 2), 2)
    if plan.slice_axis is None:
        return AxisOrder.of("SimpleITKIO", (0, 1, 2), 3)
    return AxisOrder.of("SimpleITKIO", _forward(plan), 2)


def _forward(plan: Plan) -> tuple[int, ...]:
    if plan.slice_axis is None:
        return (0, 1, 2)
    first = 2 - plan.slice_axis
    return (first, *(axis for axis in range(3) if axis != first))


def _mirrored(plan: Plan) -> tuple[int, ...] | None:
    ours = _order(plan).ours
    return tuple(axis for axis, own in enumerate(ours) if own in plan.flips) or None


def _plans(model: Model, configurations: Mapping[str, Any]) -> dict[str, Any]:
    plan, forward = model.plan, _forward(model.plan)
    reader = PICTURE_READER if plan.dimensions == 2 else "SimpleITKIO" if plan.orientation is None else "NibabelIOWithReorient"
    order, shape = _order(plan), model.card.fingerprint.shapes[1]
    across = [] if plan.slice_axis is None else [shape[plan.slice_axis]]
    return {
        "dataset_name": model.card.name,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [*([1] if plan.dimensions == 2 else across), *order.of_network(shape)],
        "image_reader_writer": reader,
        "transpose_forward": list(forward),
        "transpose_backward": [forward.index(axis) for axis in range(3)],
        "configurations": dict(configurations),
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(n): _intensities(each) for n, each in enumerate(plan.normalisation)},
    }


def _intensities(scheme: Normalisation) -> dict[str, float | None]:
    numbers = {"mean": scheme.mean, "std": scheme.std, "percentile_00_5": scheme.low, "percentile_99_5": scheme.high}
    return {name: 0.0 if value is None else value for name, value in numbers.items()}


def _dataset(model: Model) -> dict[str, Any]:
    """dataset.json: labels numbered through, in the order of the table."""
    values = {name: number for number, name in enumerate(model.labels.names, start=1)}
    labels: dict[str, Any] = {"background": 0} | values
    content: dict[str, Any] = {}
    if model.plan.regions:
        labels = {"background": 0} | {each.name: sorted(values[name] for name in each.labels) for each in model.plan.regions}
        content["regions_class_order"] = [values[each.label] for each in model.plan.regions]
    return content | {
        "channel_names": {str(number): name for number, name in enumerate(model.plan.channels)},
        "labels": labels,
        "numTraining": model.card.fingerprint.cases,
        "file_ending": ".png" if model.plan.dimensions == 2 else ".nii.gz",
        "licence": model.card.licence,
        "reference": "; ".join(model.card.citation),
    }


def _configuration(model: Model, previous: str | None) -> dict[str, Any]:
    plan, order = model.plan, _order(model.plan)
    spacing = plan.spacing or (None,) * plan.dimensions
    kept = [value is None for value in order.of_network(spacing)]
    if any(kept) and not all(kept):
        raise ExportError(
            f"{model.path}: nnU-Net has no spacing along some of a network's axes alone", remedy="Plan with a spacing."
        )
    resampling = {key: value if key.endswith("kwargs") else "no_resampling_hack" for key, value in _RESAMPLING.items()}
    for key in resampling:
        if key.endswith("kwargs"):
            resampling[key] = {}
    return {
        "data_identifier": f"{PLANS}_{plan.configuration}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan.batch_size,
        "patch_size": list(order.of_network(plan.patch_size)),
        "median_image_size_in_voxels": list(order.of_network([float(n) for n in model.card.fingerprint.shapes[1]])),
        "spacing": [1.0 if value is None else value for value in order.of_network(spacing)],
        "normalization_schemes": [_SCHEMES[each.scheme] for each in plan.normalisation],
        "use_mask_for_norm": [each.scheme == "mask" for each in plan.normalisation],
        **(resampling if all(kept) else _RESAMPLING | _image_order(plan)),
        "architecture": _architecture(plan.network, order),
        "batch_dice": False,
        **({} if previous is None else {"previous_stage": previous}),
    }


def _image_order(plan: Plan) -> dict[str, Any]:
    return {"resampling_fn_data_kwargs": _RESAMPLING["resampling_fn_data_kwargs"] | {"order": plan.image_order}}


def _architecture(network: NetworkPlan, order: AxisOrder) -> dict[str, Any]:
    axes, stages = len(order.ours), len(network.features)
    plain = network.name == PLAIN
    blocks = {"n_conv_per_stage": [2] * stages} if plain else {"n_blocks_per_stage": list(stage_blocks(network))}
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{_CLASSES[network.name]}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(network.features),
            "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
            "kernel_sizes": [list(order.of_network(kernel)) for kernel in shared_kernels(network)],
            "strides": [list(order.of_network(stride)) for stride in network.strides],
            **blocks,
            "n_conv_per_stage_decoder": [2 if plain else 1] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def shared_kernels(network: NetworkPlan) -> tuple[tuple[int, ...], ...]:
    """Of each stage the kernel that holds both its encoder's and its decoder's."""
    kernels = network.kernels
    if network.name != PLAIN or network.options.get("own_kernels"):
        return kernels
    decoder = (*kernels[1:], kernels[-1])
    return tuple(tuple(map(max, own, coarser)) for own, coarser in zip(kernels, decoder, strict=True))


def _weights(model: Model) -> dict[str, Tensor]:
    """The network's state as nnU-Net names it: with what ours leaves out, and every layer under each of its names."""
    network, order = model.plan.network, _order(model.plan)
    axes = [axis for axis in range(model.plan.dimensions) if axis != model.plan.slice_axis]
    kernels = [[kernel[axis] for axis in axes] for kernel in shared_kernels(network)]
    state: dict[str, Tensor] = {}
    for ours, theirs in parameter_names(network).items():
        tensor = model.weights[ours].detach().to(torch.float32) if ours in model.weights else _absent(theirs, model)
        level = _level(theirs, len(network.features))
        padded = tensor if level is None or tensor.ndim == 1 or ".skip." in theirs else _padded(tensor, kernels[level])
        state[theirs] = order.weights_back(padded)
        if theirs.endswith(".conv.weight") and ".skip." not in theirs:
            state.setdefault(theirs.replace("weight", "bias"), torch.zeros(len(tensor)))  # an instance norm takes it away
    return _with_copies(state)


def _level(name: str, stages: int) -> int | None:
    """The stage of a parameter of a block, 0 the finest; None of others."""
    kind, group, number = name.split(".")[:3]
    if group != "stages":
        return None
    return int(number) if kind == "encoder" else stages - 2 - int(number)


def _absent(name: str, model: Model) -> Tensor:
    """Zeros for a coarser head, or for a bias of an upsampling, that ours does not have."""
    features, kind = model.plan.network.features, name.split(".")[1]
    width = features[len(features) - 2 - int(name.split(".")[2])]
    if kind == "transpconvs":
        return torch.zeros(width)
    classes = len(model.plan.regions) or len(model.labels) + 1
    axes = model.plan.dimensions - (model.plan.slice_axis is not None)
    return torch.zeros(classes) if name.endswith("bias") else torch.zeros(classes, width, *(1,) * axes)


def _padded(tensor: Tensor, kernel: Sequence[int]) -> Tensor:
    """A convolution's weights with zeros around them, up to the size of a kernel."""
    before = [(size - own) // 2 for size, own in zip(kernel, tensor.shape[2:], strict=True)]
    return functional.pad(tensor, [each for margin in reversed(before) for each in (margin, margin)])


def _with_copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """nnU-Net registers a convolution and its norm once more in a sequence, and the encoder once more in the decoder."""
    result = dict(state)
    for name, tensor in state.items():
        for layer, place in ((".conv.", ".all_modules.0."), (".norm.", ".all_modules.1.")):
            if layer in name:
                result[name.replace(layer, place)] = tensor
    return result | {f"decoder.{name}": tensor for name, tensor in result.items() if name.startswith("encoder.")}
