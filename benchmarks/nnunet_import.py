"""Imported nnU-Net models against nnU-Net itself: trains tiny networks with nnU-Net, predicts with both, compares the labels.

    python benchmarks/nnunet_import.py DATA FOLDER [SCENARIO...] [--steps 60] [--mixed]

DATA holds the real scans of the development sets. Runs in the peers' environment (`requirements.txt`). Each scenario leaves its
raw data, its results folder and nnU-Net's predictions in FOLDER, which a later run takes up. A line of JSON a test scan: share of
voxels that agree, and Dice of each label between the two predictions.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scan:
    """A case: channels ``(C, *spatial)``, affine (None for pictures), label map (None of test scans)."""

    name: str
    channels: NDArray[Any]
    affine: NDArray[Any] | None
    labels: NDArray[Any] | None


@dataclass(frozen=True)
class Scenario:
    """What is trained and compared.

    Attributes:
        scans: training and test scans.
        channels: names of the channels, which decide the normalisation.
        labels: of dataset.json.
        configurations: trained in order.
        compared: configuration whose prediction is compared.
        regions_order: of dataset.json, where regions are learnt.
        folds: folds trained.
        planner: nnU-Net's planner.
        features: channels of the stages.
        spacing: overrides of the configurations' spacings.
        ending: of the files.
        reader: overrides the reader.
        mirrored: how many of the network's axes patches are mirrored along.
    """

    scans: Callable[[Path], tuple[list[Scan], list[Scan]]]
    channels: tuple[str, ...]
    labels: dict[str, Any]
    configurations: tuple[str, ...] = ("3d_fullres",)
    regions_order: tuple[int, ...] = ()
    folds: tuple[int, ...] = (0,)
    planner: str = "ExperimentPlanner"
    features: tuple[int, ...] = (4, 8, 16, 16, 16, 16, 16)
    spacing: dict[str, list[float]] | None = None
    ending: str = ".nii.gz"
    reader: str | None = None
    mirrored: int = 3

    @property
    def compared(self) -> str:
        """The configuration whose prediction is compared."""
        return self.configurations[-1]


def _nifti(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    import nibabel

    image = nibabel.load(path)
    return np.asarray(image.dataobj), image.affine


def _every(array: NDArray[Any], affine: NDArray[Any], steps: tuple[int, int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    return array[tuple(slice(None, None, s) for s in steps)], affine @ np.diag([*steps, 1])


def hippocampus(data: Path) -> tuple[list[Scan], list[Scan]]:
    """Four and two MRI crops of 1 mm."""
    folder = data / "hippocampus" / "all"
    files = sorted((folder / "images").glob("*.nii.gz"))[:6]
    scans = []
    for file in files:
        image, affine = _nifti(file)
        labels, _ = _nifti(folder / "labels" / file.name)
        scans.append(Scan(file.name.removesuffix(".nii.gz"), image[None], affine, labels.astype(np.uint8)))
    return scans[:4], scans[4:]


def vertebrae(data: Path) -> tuple[list[Scan], list[Scan]]:
    """Four and two lumbar MRI of every second voxel, stored in the order I, P, R."""
    folder, scans = data / "spine_mri_waterfat", []
    for file in sorted((folder / "images").glob("*.nii.gz"))[:6]:
        image, affine = _nifti(file)
        labels, _ = _nifti(next((folder / "labels").glob(file.name.split(".")[0] + "*")))
        small, coarse = _every(image, affine, (2, 2, 1))
        scans.append(Scan(file.name.removesuffix(".nii.gz"), small[None], coarse, _every(labels, affine, (2, 2, 1))[0]))
    return scans[:4], scans[4:]


def spleen(data: Path) -> tuple[list[Scan], list[Scan]]:
    """One CT crop of thick slices, whole and with every second pixel; predicted on both and on every third row."""
    folder = data / "ct_spleen_msd_crop"
    image, affine = _nifti(folder / "sub-spleen2/ct/sub-spleen2_ct.nii.gz")
    labels, _ = _nifti(folder / "derivatives/labels/sub-spleen2/ct/sub-spleen2_ct_seg-manual.nii.gz")
    scans = []
    for name, steps in (("full", (1, 1, 1)), ("half", (2, 2, 1)), ("rows", (1, 3, 1))):
        small, coarse = _every(image, affine, steps)
        scans.append(Scan(name, small[None], coarse, _every(labels, affine, steps)[0]))
    return scans[:2], scans


def brain(data: Path) -> tuple[list[Scan], list[Scan]]:
    """FLAIR and T1 of one skull-stripped brain, of every second voxel, and flipped; LAS."""
    folder = data / "ms_lesion/cross_sectional/MNI/patient07"
    names = (
        "FLAIR_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI",
        "T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI",
    )
    scans = []
    for name, steps in (("two", (2, 2, 2)), ("three", (2, 2, 3)), ("uneven", (3, 2, 2))):
        arrays = [_every(*_nifti(folder / f"{each}.nii.gz"), steps) for each in names]
        flair = arrays[0][0]
        labels = (flair > np.percentile(flair[flair != 0], 90)).astype(np.uint8)  # something to learn: the brightest tissue
        labels[arrays[1][0] > np.percentile(arrays[1][0], 96)] = 2
        scans.append(Scan(name, np.stack([array for array, _ in arrays]), arrays[0][1], labels))
    return scans[:2], scans


def radiographs(data: Path) -> tuple[list[Scan], list[Scan]]:
    """Four and two chest radiographs."""
    from PIL import Image

    folder, scans = data / "cxr_lung/kermany_ccby40", []
    for file in sorted((folder / "images").glob("*.jpg"))[:6]:
        picture = np.asarray(Image.open(file).convert("L"))[::2, ::2]
        mask = np.asarray(Image.open(folder / "masks" / f"{file.stem}.png"))[::2, ::2]
        scans.append(Scan(file.stem, picture[None], None, (mask == 1).astype(np.uint8)))
    return scans[:4], scans[4:]


PARTS = {"background": 0, "anterior": 1, "posterior": 2}
SCENARIOS = {
    "3d": Scenario(hippocampus, ("MRI",), PARTS),
    "folds": Scenario(hippocampus, ("MRI",), PARTS, folds=(0, 1, 2), spacing={"3d_fullres": [1.3, 0.9, 1.1]}),
    "2d": Scenario(hippocampus, ("MRI",), PARTS, ("2d",), spacing={"2d": [1.25, 0.85]}),
    "resenc": Scenario(hippocampus, ("MRI",), PARTS, planner="nnUNetPlannerResEncM", spacing={"3d_fullres": [1.1, 1.1, 1.1]}),
    "regions": Scenario(
        hippocampus, ("MRI",), {"background": 0, "whole": [1, 2], "posterior": [2]}, regions_order=(1, 2),
        spacing={"3d_fullres": [1.2, 1.2, 1.2]},
    ),
    "cascade": Scenario(
        hippocampus, ("MRI",), PARTS, ("3d_lowres", "3d_cascade_fullres"), folds=(0, 1), spacing={"3d_lowres": [2.0, 2.0, 2.0]},
    ),
    "vertebrae": Scenario(vertebrae, ("MRI",), {"background": 0} | {f"L{n}": n for n in range(1, 6)}),
    "reoriented": Scenario(
        vertebrae, ("MRI",), {"background": 0} | {f"L{n}": n for n in range(1, 6)}, reader="NibabelIOWithReorient",
        spacing={"3d_fullres": [1.5, 1.9, 1.7]},
    ),
    "spleen": Scenario(spleen, ("CT",), {"background": 0, "spleen": 1}),
    "brain": Scenario(brain, ("FLAIR", "T1"), {"background": 0, "bright": 1, "white": 2}),
    "radiographs": Scenario(radiographs, ("X-ray",), {"background": 0, "lung": 1}, ("2d",), ending=".png"),
}  # fmt: skip


def write_scan(scan: Scan, images: Path, labels: Path | None, ending: str) -> None:
    """A scan in nnU-Net's layout."""
    import nibabel
    from PIL import Image

    for channel, array in enumerate(scan.channels):
        path = images / f"{scan.name}_{channel:04d}{ending}"
        Image.fromarray(array).save(path) if scan.affine is None else nibabel.save(nibabel.Nifti1Image(array, scan.affine), path)
    if labels is not None and scan.labels is not None:
        path, mask = labels / f"{scan.name}{ending}", scan.labels.astype(np.uint8)
        Image.fromarray(mask).save(path) if scan.affine is None else nibabel.save(nibabel.Nifti1Image(mask, scan.affine), path)


def write_raw(scenario: Scenario, folder: Path, dataset: str, data: Path) -> None:
    """Training scans, test scans, dataset.json."""
    raw = folder / "raw" / dataset
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / name).mkdir(parents=True, exist_ok=True)
    train, test = scenario.scans(data)
    for scan in train:
        write_scan(scan, raw / "imagesTr", raw / "labelsTr", scenario.ending)
    for scan in test:
        write_scan(scan, raw / "imagesTs", None, scenario.ending)
    card: dict[str, Any] = {
        "channel_names": {str(i): name for i, name in enumerate(scenario.channels)},
        "labels": scenario.labels,
        "numTraining": len(train),
        "file_ending": scenario.ending,
    }
    if scenario.regions_order:
        card["regions_class_order"] = list(scenario.regions_order)
    if scenario.reader:
        card["overwrite_image_reader_writer"] = scenario.reader
    (raw / "dataset.json").write_text(json.dumps(card))


def plan(scenario: Scenario, folder: Path, dataset: str) -> dict[str, Any]:
    """nnU-Net's own plan with few features; a cascade's low resolution is forced."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    extract_fingerprints([4], num_processes=1, check_dataset_integrity=False)
    name = plan_experiments([4], experiment_planner_class_name=scenario.planner, gpu_memory_target_in_gb=8) or "nnUNetPlans"
    file = folder / "preprocessed" / dataset / f"{name}.json"
    plans = json.loads(file.read_text())
    configurations = plans["configurations"]
    for configuration, spacing in (scenario.spacing or {}).items():
        if configuration not in configurations:
            full = json.loads(json.dumps(configurations["3d_fullres"]))
            configurations[configuration] = full | {"data_identifier": f"{name}_{configuration}"}
        configurations[configuration]["spacing"] = spacing
    if "3d_lowres" in scenario.configurations:
        configurations["3d_lowres"]["next_stage"] = "3d_cascade_fullres"
        configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    for configuration in configurations.values():
        if "architecture" in configuration:
            arguments = configuration["architecture"]["arch_kwargs"]
            arguments["features_per_stage"] = list(scenario.features[: arguments["n_stages"]])
            if "n_blocks_per_stage" in arguments:
                arguments["n_blocks_per_stage"] = [min(2, n) for n in arguments["n_blocks_per_stage"]]
            configuration["batch_size"] = 2
            divisors = np.prod(arguments["strides"], axis=0)
            halves = [int(d * max(2, p // (2 * d))) for p, d in zip(configuration["patch_size"], divisors, strict=True)]
            configuration["patch_size"] = [min(p, h) for p, h in zip(configuration["patch_size"], halves, strict=True)]
    file.write_text(json.dumps(plans))
    prepared = [each for each in scenario.configurations if each != "3d_cascade_fullres"]
    prepared += ["3d_fullres"] if "3d_cascade_fullres" in scenario.configurations else []
    preprocess([4], name, configurations=tuple(prepared), num_processes=(1,) * len(prepared))
    return plans


def train(scenario: Scenario, folder: Path, dataset: str, plans: dict[str, Any], steps: int) -> None:
    """Every fold of every configuration, a few steps each, through nnU-Net's trainer with its own checkpoint."""
    import torch
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA

    class nnUNetTrainer(nnUNetTrainerNoDA):  # noqa: N801 - under this name nnU-Net finds the network without importing timm
        pass

    preprocessed = folder / "preprocessed" / dataset
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # augmentation in this process; planning needs a positive number
    card = json.loads((preprocessed / "dataset.json").read_text())
    names = sorted(file.name.removesuffix(scenario.ending) for file in (preprocessed / "gt_segmentations").iterdir())
    split = {"train": names, "val": names if "3d_lowres" in scenario.configurations else names[:1]}
    (preprocessed / "splits_final.json").write_text(json.dumps([split] * 5))
    for configuration in scenario.configurations:
        for fold in scenario.folds:
            torch.manual_seed(fold)
            np.random.seed(fold)
            trainer = nnUNetTrainer(plans | {"continue_training": False}, configuration, fold, card, torch.device("cpu"))
            trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch, trainer.num_epochs = steps, 1, 1
            trainer.initialize()
            trainer.optimizer = torch.optim.AdamW(trainer.network.parameters(), 4e-3)  # labels after a few steps
            trainer.run_training()
            axes = len(trainer.configuration_manager.patch_size)
            trainer.inference_allowed_mirroring_axes = tuple(range(axes))[: scenario.mirrored]
            trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
            if configuration == "3d_lowres":
                trainer.perform_actual_validation()  # it also writes what the second stage is trained with
    print("trained", file=sys.stderr)


def results_folder(folder: Path, dataset: str, configuration: str) -> Path:
    """Where nnU-Net put a configuration."""
    return next((folder / "results" / dataset).glob(f"*__{configuration}"))


def predict_nnunet(scenario: Scenario, folder: Path, dataset: str) -> None:
    """nnU-Net's own prediction of the test scans, of the first stage too."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    images, before = folder / "raw" / dataset / "imagesTs", None
    for configuration in scenario.configurations:
        out = folder / "predicted" / configuration
        out.mkdir(parents=True, exist_ok=True)
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        model = results_folder(folder, dataset, configuration)
        predictor.initialize_from_trained_model_folder(str(model), scenario.folds, "checkpoint_final.pth")
        predictor.predict_from_files_sequential(str(images), str(out), False, True, None if before is None else str(before))
        before = out


def compare(scenario: Scenario, folder: Path, dataset: str, mixed: bool) -> Iterator[dict[str, Any]]:
    """Our prediction by the imported model against nnU-Net's."""
    import voxelry
    from voxelry.datasets import read_channels
    from voxelry.inference import PredictOptions, Predictor
    from voxelry.networks import load_models

    model = folder / "imported"
    shutil.rmtree(model, ignore_errors=True)
    voxelry.import_model("nnunet", results_folder(folder, dataset, scenario.compared), model)
    predictor = Predictor(load_models(model), "cpu", PredictOptions(mixed_precision="auto" if mixed else "off"))
    raw = folder / "raw" / dataset / "imagesTs"
    for file in sorted((folder / "predicted" / scenario.compared).glob(f"*{scenario.ending}")):
        name = file.name.removesuffix(scenario.ending)
        volume = read_channels([raw / f"{name}_{c:04d}{scenario.ending}" for c in range(len(scenario.channels))])
        ours = predictor.predict(volume).labels
        theirs = voxelry.read_labels(file)
        a, b = ours.array, theirs.array
        values = sorted(set(np.unique(b)) | set(np.unique(a)) - {0})
        dice = {int(v): float(2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum())) for v in values if v}
        yield {"scan": name, "agree": float((a == b).mean()), "dice": dice, "voxels": {v: int((b == v).sum()) for v in dice}}


def main() -> None:
    """Run the scenarios; prints JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--mixed", action="store_true", help="compute in bfloat16 where the processor is fast at it")
    parser.add_argument("--train-only", action="store_true")
    options = parser.parse_args()
    start = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: start("fork" if method == "spawn" else method)  # type: ignore[assignment]
    for name in options.scenarios:
        run(name, options.data, options.folder.resolve() / name, options)


def run(name: str, data: Path, folder: Path, options: argparse.Namespace) -> None:
    """One scenario."""
    scenario, dataset = SCENARIOS[name], "Dataset004_Import"
    for kind in ("raw", "preprocessed", "results"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{kind}"] = str(folder / kind)
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "nnUNet_compile": "f"}
    if not (folder / "predicted" / scenario.compared).is_dir():
        if not list((folder / "results").glob(f"*/*__{scenario.compared}/fold_{scenario.folds[-1]}/checkpoint_final.pth")):
            write_raw(scenario, folder, dataset, data)
            train(scenario, folder, dataset, plan(scenario, folder, dataset), options.steps)
        predict_nnunet(scenario, folder, dataset)
    if not options.train_only:
        for row in compare(scenario, folder, dataset, options.mixed):
            print(json.dumps({"scenario": name} | row), flush=True)


if __name__ == "__main__":
    main()
