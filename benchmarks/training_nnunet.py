"""nnU-Net v2 under a wall-clock budget: its own fingerprint, 3D plan, preprocessing, trainer and validation, driven from Python.

Its learning rate decays over `num_epochs`, so an epoch here has few steps, and the number of epochs is chosen by timing a few
steps: the schedule is compressed to what the time allows. Nothing else of its recipe is changed, except that its running
validation is one batch per epoch, and no checkpoints are written.

    python benchmarks/training_nnunet.py MANIFEST ROOT FOLDER --minutes 30 --seed 0 --device cpu

Runs in the peers' environment. The last line of standard output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

EPOCH = 10
"""Steps of an epoch."""
TIMED = 4
"""Steps timed before the schedule is set, after one untimed step."""
DATASET = "Dataset004_Benchmark"


def prepare(manifest: Path, root: Path, folder: Path) -> Path:
    """Write the dataset in nnU-Net's layout, plan and preprocess; returns the preprocessed folder. Its time is not counted."""
    import nibabel
    import numpy as np
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    from voxelry.datasets.load import load_case
    from voxelry.datasets.manifest import load_manifest

    preprocessed = folder / "preprocessed" / DATASET
    if (preprocessed / "splits_final.json").exists():
        return preprocessed
    data, raw = load_manifest(manifest, root), folder / "raw" / DATASET
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True, exist_ok=True)
    split: dict[str, list[str]] = {"train": [], "val": []}
    for case in [case for name in split for case in data.split(name) if case.has_labels]:
        volume, labels = load_case(case, data)
        affine = volume.geometry.affine
        classes = data.card.table.to_classes(labels.array, case.id)
        for channel, array in enumerate(volume.array):
            nibabel.save(nibabel.Nifti1Image(np.asarray(array), affine), raw / "imagesTr" / f"{case.id}_{channel:04d}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(classes.astype(np.uint8), affine), raw / "labelsTr" / f"{case.id}.nii.gz")
        split[case.split].append(case.id)
    card = {
        "channel_names": {str(i): name for i, name in enumerate(data.card.channels)},
        "labels": {"background": 0} | {name: i for i, name in enumerate(data.card.table.names, start=1)},
        "numTraining": sum(map(len, split.values())),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(card))
    extract_fingerprints([4], num_processes=2, check_dataset_integrity=False)
    plan_experiments([4], gpu_memory_target_in_gb=8)
    preprocess([4], configurations=("3d_fullres",), num_processes=(2,))
    (preprocessed / "splits_final.json").write_text(json.dumps([split]))
    return preprocessed


def train(preprocessed: Path, minutes: float, seed: int, device: str) -> dict[str, Any]:
    """Train for a number of minutes; returns steps, seconds, and the folder of validation predictions."""
    import numpy as np
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, json.loads((preprocessed / "dataset.json").read_text()), torch.device(device))
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = EPOCH, 1
    trainer.disable_checkpointing = True
    trainer.initialize()
    weights = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.on_train_start()
    began = time.monotonic()
    for step in range(1 + TIMED):
        if step == 1:
            began = time.monotonic()
        trainer.train_step(next(trainer.dataloader_train))
    step_seconds = (time.monotonic() - began) / TIMED
    trainer.network.load_state_dict(weights)
    trainer.num_epochs = max(1, round(minutes * 60 / (step_seconds * (EPOCH + 0.4))))
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    began, steps = time.monotonic(), 0
    for _ in range(trainer.num_epochs):
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in range(EPOCH)])
        steps += EPOCH
        with torch.no_grad():
            trainer.on_validation_epoch_start()
            trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
        trainer.on_epoch_end()
        if time.monotonic() - began > minutes * 60:
            break
    seconds = time.monotonic() - began
    trainer.on_train_end()
    trainer.perform_actual_validation()
    return {
        "steps": steps,
        "seconds": seconds,
        "step_seconds": step_seconds,
        "predictions": str(Path(trainer.output_folder) / "validation"),
    }


def main() -> None:
    """Prepare, train, validate; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manifest", "root", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for name, folder in {"raw": "raw", "preprocessed": "preprocessed", "results": f"results_{options.seed}"}.items():
        path = options.folder / folder
        path.mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(path)
    preprocessed = prepare(options.manifest, options.root, options.folder)
    print(json.dumps(train(preprocessed, options.minutes, options.seed, options.device)))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
