"""Results folders of nnU-Net made by hand: plans.json, dataset.json, and checkpoints with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.nnunet_network import nnunet_logits

KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 1, 2]]
FEATURES = [4, 6, 8, 8]
RESAMPLING = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
}


def architecture(axes: int = 3, residual: bool = False, **changes: Any) -> dict[str, Any]:
    blocks = {"n_blocks_per_stage": [1, 2, 2, 1]} if residual else {"n_conv_per_stage": [2] * 4}
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": FEATURES,
            "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
            "kernel_sizes": [kernel[-axes:] for kernel in KERNELS],
            "strides": [stride[-axes:] for stride in STRIDES],
            "n_conv_per_stage_decoder": [1 if residual else 2] * 3,
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
            **blocks,
        }
        | changes,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(axes: int = 3, **changes: Any) -> dict[str, Any]:
    return {
        "batch_size": 2,
        "patch_size": [8, 16, 16][-axes:],
        "spacing": [2.0, 1.0, 1.0][-axes:],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture(axes),
        **RESAMPLING,
    } | changes


def plans(configurations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "dataset_name": "Dataset007_Tiny",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations,
        "original_median_shape_after_transp": [20, 40, 40],
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 50.0, "std": 20.0, "percentile_00_5": 0.0, "percentile_99_5": 120.0, "median": 48.0}
        },
    } | changes


def dataset(**changes: Any) -> dict[str, Any]:
    labels = {"background": 0, "left part": 1, "right part": 2}
    return {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 4, "file_ending": ".nii.gz"} | changes


def random_state(shape_of: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shape_of.items()}


def shapes(arguments: dict[str, Any], inputs: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a network's parameters, without the copies that nnU-Net registers."""
    kernels, strides, width = arguments["kernel_sizes"], arguments["strides"], arguments["features_per_stage"]
    blocks, result = arguments.get("n_blocks_per_stage"), dict[str, tuple[int, ...]]()

    def block(name: str, before: int, after: int, kernel: list[int], bias: bool = True) -> None:
        result[f"{name}.conv.weight"] = (after, before, *kernel)
        if bias:
            result[f"{name}.conv.bias"] = (after,)
        result[f"{name}.norm.weight"] = result[f"{name}.norm.bias"] = (after,)

    before = inputs
    if blocks:
        block("encoder.stem.convs.0", inputs, width[0], kernels[0])
        before = width[0]
    for stage, after in enumerate(width):
        for number in range(blocks[stage] if blocks else 2):
            first = before if number == 0 else after
            if blocks:
                name = f"encoder.stages.{stage}.blocks.{number}"
                block(f"{name}.conv1", first, after, kernels[stage])
                block(f"{name}.conv2", after, after, kernels[stage])
                if number == 0 and before != after:
                    pooled = int(any(step != 1 for step in strides[stage]))
                    block(f"{name}.skip.{pooled}", before, after, [1] * len(kernels[0]), bias=False)
            else:
                block(f"encoder.stages.{stage}.0.convs.{number}", first, after, kernels[stage])
        before = after
    last = len(width) - 2
    for step in range(last + 1):
        level = last - step
        result[f"decoder.transpconvs.{step}.weight"] = (width[level + 1], width[level], *strides[level + 1])
        result[f"decoder.transpconvs.{step}.bias"] = (width[level],)
        for number in range(arguments["n_conv_per_stage_decoder"][step]):
            block(f"decoder.stages.{step}.convs.{number}", width[level] * (2 if number == 0 else 1), width[level], kernels[level])
        result[f"decoder.seg_layers.{step}.weight"] = (classes, width[level], *[1] * len(kernels[0]))
        result[f"decoder.seg_layers.{step}.bias"] = (classes,)
    return result


def checkpoint(
    state: dict[str, torch.Tensor], name: str, mirrored: tuple[int, ...] | None = (0, 1, 2), **changes: Any
) -> dict[str, Any]:
    """As nnUNetTrainer.save_checkpoint has it, numpy scalars in its log included."""
    copies = {
        key.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1."): value for key, value in state.items()
    }
    copies |= {f"decoder.{key}": value for key, value in state.items() if key.startswith("encoder.")}
    return {
        "network_weights": state | copies,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01, "params": [0]}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float32(0.5)],
            "lrs": [0.01],
            "train_losses": [np.float64(-0.25)],
            "ema": [np.mean([1.0, 2.0])],
        },
        "_best_ema": np.float32(0.5),
        "current_epoch": 3,
        "init_args": {"plans": {}, "configuration": name, "fold": 0, "dataset_json": {}, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": mirrored,
    } | changes


def balance(state: dict[str, torch.Tensor], arguments: dict[str, Any], inputs: int) -> None:
    """Shift the last bias so that the logits of each class have median 0 on noise."""
    axes = len(arguments["kernel_sizes"][0])
    noise = torch.randn((1, inputs, *[16] * axes), generator=torch.Generator().manual_seed(0))
    logits = nnunet_logits(noise, state, arguments)
    state[f"decoder.seg_layers.{arguments['n_stages'] - 2}.bias"] -= logits[0].flatten(1).median(1).values


def write_results(
    folder: Path,
    name: str = "3d_fullres",
    *,
    folds: tuple[str, ...] = ("0",),
    plan: dict[str, Any] | None = None,
    card: dict[str, Any] | None = None,
    inputs: int = 1,
    classes: int = 3,
    mirrored: tuple[int, ...] | None = (0, 1, 2),
    balanced: bool = False,
) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    """A results folder, and the weights of its folds; balanced ones give every class."""
    plan = plan or plans({name: configuration()})
    results = folder / f"nnUNetTrainer__nnUNetPlans__{name}"
    results.mkdir(parents=True)
    (results / "plans.json").write_text(json.dumps(plan))
    (results / "dataset.json").write_text(json.dumps(card or dataset()))
    own = plan["configurations"][name]
    own = plan["configurations"][own["inherits_from"]] | own if "inherits_from" in own else own
    states = []
    for number, fold in enumerate(folds):
        state = random_state(shapes(own["architecture"]["arch_kwargs"], inputs, classes), number)
        if balanced:
            balance(state, own["architecture"]["arch_kwargs"], inputs)
        (results / f"fold_{fold}").mkdir()
        torch.save(checkpoint(state, name, mirrored), results / f"fold_{fold}" / "checkpoint_final.pth")
        states.append(state)
    return results, states
