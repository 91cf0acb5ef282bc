"""The contestants of `inference.py` and `gpu.py`: voxelry, MONAI and nnU-Net with one network, and their inputs.

Inputs lie in a folder: `scan.npy` (int16), `prepared.npy` (the network's input), `model/` (a model that `train_briefly` made),
`random/` (the same with fresh weights). voxelry gets the scan and prepares it; its peers get the prepared scan.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from preparation import blobs
from voxelry.base.device import compute_dtype
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.model import Model, ModelCard
from voxelry.core.plan import ChannelStatistics, Fingerprint, NetworkPlan, Normalisation, Plan
from voxelry.core.volume import Volume
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.build import build_network
from voxelry.networks.weights import load_model_folder, network_of, save_model, weights_of
from voxelry.preparation.preparation import prepare

Run = Callable[[], Any]
Watch = Callable[[nn.Module], None]
"""Is shown the network before its first pass."""

GREY = Normalisation(scheme="global", low=-1000.0, high=1300.0, mean=150.0, std=600.0)
NOISE, DARKEST, BRIGHTEST, AROUND = 10.0, 0.0, 1200.0, -200.0
CLASSES = 14
RATE = 1e-2
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """How large the comparison is.

    Attributes:
        scan: voxels of the scan.
        prepared: voxels of what the network sees.
        patch: voxels of a patch.
        features: of the network's stages.
        period: voxels of the scan after which organs repeat, such that every patch sees the same mixture: instance norms hide
            absolute grey values.
        steps: of training.
    """

    scan: tuple[int, int, int] = (204, 300, 300)
    prepared: tuple[int, int, int] = (136, 192, 192)
    patch: tuple[int, int, int] = (64, 128, 128)
    features: tuple[int, ...] = (8, 16, 32, 64, 80)
    period: tuple[int, int, int] = (96, 100, 100)
    steps: int = 100


QUICK = Size((60, 72, 72), (40, 48, 48), (16, 32, 32), (8, 16, 16), (24, 48, 48), 5)


def plan_of(patch: tuple[int, ...], features: tuple[int, ...], spacing: tuple[float, ...]) -> Plan:
    """nnU-Net's plain U-Net, strides of 2, kernels of 3, half a patch of overlap, no flips."""
    recipe = NetworkPlan(
        features=features,
        strides=((1, 1, 1), *((2, 2, 2),) * (len(features) - 1)),
        kernels=((3, 3, 3),) * len(features),
        deep_supervision=0,
    )
    return Plan(
        dimensions=3, channels=("CT",), spacing=spacing, normalisation=(GREY,), patch_size=patch, batch_size=1, network=recipe
    )


def model_of(plan: Plan, classes: int, shape: tuple[int, ...]) -> Model:
    """A model with fresh weights; its card is made up."""
    ones = (1.0, 1.0, 1.0)
    fingerprint = Fingerprint(
        cases=1, modality="CT", dimensions=3, channels=("CT",), shapes=(shape,) * 3, spacing=ones, spacing_range=(ones, ones),
        orientations={"RAS": 1}, statistics=(ChannelStatistics(mean=150.0, std=600.0, p005=-1000.0, p995=1300.0),),
        voxels=int(np.prod(shape)), label_voxels={},
    )  # fmt: skip
    torch.manual_seed(0)
    card = ModelCard(name="benchmark", version="0", labels=LabelTable.numbered(range(1, classes)), fingerprint=fingerprint)
    return Model(plan, card, weights_of(build_network(plan, classes)))


def volume_of(array: Any) -> Volume:
    """A scan with voxels of 1 mm."""
    return Volume(array[None], Geometry.from_spacing(array.shape, (1.0, 1.0, 1.0)))


def make_inputs(folder: Path, size: Size, classes: int = CLASSES, device: torch.device = CPU) -> None:
    """Draw a scan of organs that differ in grey value, train on it, and write what the contestants are given."""
    rng = np.random.default_rng(0)
    copies = [-(-n // p) for n, p in zip(size.scan, size.period, strict=True)]
    labels = np.tile(blobs(size.period, classes - 1), copies)[tuple(slice(0, n) for n in size.scan)]
    greys = np.array([AROUND, *np.linspace(DARKEST, BRIGHTEST, classes - 1)])
    scan = (greys[labels] + rng.normal(0, NOISE, size.scan)).astype(np.int16)
    np.save(folder / "scan.npy", scan)
    spacing = tuple(n / m for n, m in zip(size.scan, size.prepared, strict=True))
    model = model_of(plan_of(size.patch, size.features, spacing), classes, size.scan)
    save_model(model, folder / "random")
    preparation = prepare(volume_of(scan), model.plan)
    image = preparation.image(volume_of(scan))
    np.save(folder / "prepared.npy", image)
    classes_there = preparation.classes(labels.astype(np.int16))
    save_model(train_briefly(model, image, classes_there, size.steps, device), folder / "model")


def train_briefly(model: Model, image: Any, classes: Any, steps: int, device: torch.device) -> Model:
    """About a minute of training on crops as wide as a period, so that logits are as decided as those of a real model."""
    rng, network, half = np.random.default_rng(0), network_of(model, device).train(), compute_dtype(device, "auto")
    optimiser = torch.optim.Adam(network.parameters())
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    crop_shape = [min(model.plan.patch_size)] * 3
    start, losses = time.perf_counter(), []
    for _ in range(steps):
        low = [rng.integers(0, n - w + 1) for w, n in zip(crop_shape, classes.shape, strict=True)]
        crop = tuple(slice(first, first + w) for first, w in zip(low, crop_shape, strict=True))
        given = torch.from_numpy(np.ascontiguousarray(image[(slice(None), *crop)]))[None].to(device)
        wanted = torch.from_numpy(classes[crop].astype(np.int64))[None].to(device)
        with torch.autocast(device.type, dtype=half, enabled=half != torch.float32):
            logits = network(given)[0]
        loss = nn.functional.cross_entropy(logits.float(), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
        losses.append(loss.item())
    print(f"trained {steps} steps in {time.perf_counter() - start:.0f} s, cross-entropy {np.mean(losses[-10:]):.3f}\n")
    return Model(model.plan, model.card, weights_of(network))


def _no_watch(_: nn.Module) -> None:
    """Nobody watches."""


def voxelry(model: Path, device: str, watch: Watch = _no_watch, **choices: Any) -> Run:
    """The whole of `Predictor.predict`: preparation, patches, labels on the scan's grid, confidence, flags."""
    predictor = Predictor(load_model_folder(model), device, PredictOptions(**choices))
    watch(predictor.networks[0])
    scan = volume_of(np.load(model.parent / "scan.npy"))
    warm = volume_of(scan.array[0][tuple(slice(0, n) for n in predictor.model.plan.patch_size)])
    predictor.predict(warm)
    return lambda: predictor.predict(scan).labels.array


class _Finest(nn.Module):
    """The network as its peers' programs want it: a tensor, not a list."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches_BC: torch.Tensor) -> torch.Tensor:
        return self.network(patches_BC)[0]


def _given(folder: Path, device: str, watch: Watch) -> tuple[Model, nn.Module, Any, tuple[int, ...]]:
    """A model, its network on the device and warm, what it sees, and the scan's shape."""
    model = load_model_folder(folder)
    network = _Finest(network_of(model, torch.device(device))).eval()
    watch(network)
    with torch.inference_mode():
        network(torch.zeros((1, 1, *model.plan.patch_size), device=device))
    image = torch.from_numpy(np.load(folder.parent / "prepared.npy"))
    return model, network, image, np.load(folder.parent / "scan.npy", mmap_mode="r").shape


def monai(folder: Path, device: str, watch: Watch = _no_watch) -> Run:
    """`sliding_window_inference`, then `Resize` and `argmax`, the cheapest of its ways back (`Invertd` goes through float64)."""
    from monai.inferers import sliding_window_inference
    from monai.transforms import AsDiscrete, Resize

    model, network, image, shape = _given(folder, device, watch)
    plan = model.plan
    back, decide = Resize(shape, mode="trilinear"), AsDiscrete(argmax=True, dtype=torch.uint8)
    half = device != "cpu"

    def run() -> Any:
        with torch.inference_mode(), torch.autocast("cuda", enabled=half):
            prepared = image[None].to(device)
            logits = sliding_window_inference(prepared, plan.patch_size, 1, network, plan.overlap, mode="gaussian")
            return decide(back(logits[0]))[0].cpu().numpy()

    return run


def nnunet(folder: Path, device: str, watch: Watch = _no_watch) -> Run:
    """nnU-Net's predictor and its export without the file, with our network in it; no mirroring, one process."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape as export

    model, network, image, shape = _given(folder, device, watch)
    predictor = nnunet_predictor(network, model.plan, len(model.labels) + 1, device)
    properties = nnunet_properties(shape)

    def run() -> Any:
        logits = predictor.predict_logits_from_preprocessed_data(image)
        return export(
            logits, predictor.plans_manager, predictor.configuration_manager, predictor.label_manager, properties
        ).astype(np.uint8)

    return run


def nnunet_predictor(network: nn.Module, plan: Plan, classes: int, device: str) -> Any:
    """Its predictor around a network, with the settings that its planner writes for isotropic CT."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "patch_size": list(plan.patch_size),
        "spacing": list(plan.spacing or ()),
        "architecture": {},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
    }
    plans = PlansManager(
        {
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "label_manager": "LabelManager",
            "configurations": {"3d_fullres": configuration},
        }
    )
    names = {"background": 0, **{f"label_{value}": value for value in range(1, classes)}}
    on_device = device != "cpu"
    predictor = nnUNetPredictor(
        tile_step_size=1 - plan.overlap, use_mirroring=False, perform_everything_on_device=on_device,
        device=torch.device(device), allow_tqdm=False,
    )  # fmt: skip
    dataset = {"labels": names, "file_ending": ".nii.gz"}
    configured = plans.get_configuration("3d_fullres")
    predictor.manual_initialization(network, plans, configured, [network.state_dict()], dataset, "nnUNetTrainer", None)
    return predictor


def nnunet_properties(shape: tuple[int, ...]) -> dict[str, Any]:
    """What its preprocessing would have noted about a scan with voxels of 1 mm and nothing to crop."""
    return {
        "spacing": [1.0, 1.0, 1.0],
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": [[0, n] for n in shape],
        "shape_after_cropping_and_before_resampling": shape,
    }
