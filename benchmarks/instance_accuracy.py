"""Accuracy of objects told apart: nuclei, vertebrae, lesions, axons, teeth and discs, trained by their recipes in their minutes.

    VOXELRY_DATA=... python benchmarks/instance_accuracy.py --only nuclei            # three seeds, two hours on two cores
    VOXELRY_DATA=... python benchmarks/instance_accuracy.py --only nuclei --folds 3 --seeds 0 --set loss.instances=2
    VOXELRY_DATA=... python benchmarks/instance_accuracy.py --only decoders --seeds 0
    VOXELRY_DATA=... python benchmarks/instance_accuracy.py --only spine --device cuda

nuclei: AP at an IoU of 0.5, TP / (TP + FP + FN), over all objects of the validation pictures together (StarDist's
`matching_dataset`) and as a mean over pictures (Cellpose's), and the mean over IoU 0.5:0.95 (Data Science Bowl); with `--folds`
over folds of the training pictures, for choosing a recipe. decoders: the same pictures and minutes with a network without a head
(components), and with star-convex distances (`instance_decoders.py`). spine: three folds, three networks each; identification
rate, PQ and Dice of named vertebrae. torso: lesions of phantoms over 0.5 ml. axons: of four pictures, each held out once.
dental: FDI numbers of teeth of phantoms. ivdm3seg: seven discs of phantoms. On a CPU all run on two cores. Exits with 1 where a
bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if "cuda" not in sys.argv:  # before any pool of threads is made
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    os.environ["OMP_NUM_THREADS"] = "2"

import numpy as np
from harness import HERE, print_rows

from voxelry.core.model import Model
from voxelry.core.volume import LabelMap
from voxelry.datasets.cases import Case
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.inference.predictor import Predictor
from voxelry.metrics.instances import ObjectMap, ObjectOverlaps, object_overlaps, objects_from_ids
from voxelry.metrics.matching import match
from voxelry.metrics.panoptic import average_precision
from voxelry.phantom.dataset import PICTURES, write_phantoms
from voxelry.phantom.phantom import Kind
from voxelry.recipes.recipe import Config, load_config
from voxelry.training.folds import make_folds
from voxelry.training.options import RunOptions
from voxelry.training.run import train_model

ROOT = HERE.parent
MINUTES = {"nuclei": 38.0, "components": 38.0, "stars": 38.0, "spine": 40.0, "torso": 15.0, "axons": 10.0,
           "dental": 20.0, "ivdm3seg": 15.0}  # fmt: skip
BARS = {
    "nuclei": {"ap50": 0.80},
    "spine": {"identification": 0.95, "pq": 0.75, "dice": 0.85},
    "torso": {"f1": 0.85, "count_exact": 0.8},
    "dental": {"identification": 0.97},
}
LESION_ML = 0.5

_UNMOVED = ["augment.shift_p=0.3", "augment.shift=0.05", "augment.scale_p=0.4", "augment.scale=[0.8,1.25]",
            "augment.flip_axes=[]", "flips=[]"]  # fmt: skip
SPINE_NETWORKS: dict[str, list[str]] = {
    "moved": [],
    "windows": [*_UNMOVED, "steps=800"],
    "whole": [*_UNMOVED, "steps=620", "plan.patch_size=[24,80,80]"],
}
"""Changes of the spine's recipe for each network that is averaged: windows much or little moved, and the whole scan."""

Pair = tuple[LabelMap, LabelMap]
"""Reference and prediction of a case."""


def main() -> int:
    """Run all, print the table; 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"sections whose name contains this: {', '.join(SECTIONS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=0, help="of the training pictures of the nuclei, in place of the split")
    parser.add_argument("--minutes", type=float, help="of each network, in place of each section's own")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="KEY=VALUE changes of the recipe")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--root", type=Path, default=os.environ.get("VOXELRY_DATA"))
    parser.add_argument("--out", type=Path, help="keep the runs there")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, section in SECTIONS.items():
            if options.only not in name:
                continue
            for seed in options.seeds:
                folder = (options.out or Path(temporary)) / f"{name}_{seed}"
                for measured in section(folder, seed, options):
                    rows.append({"section": name, "seed": seed} | {key: _rounded(value) for key, value in measured.items()})
                    print(json.dumps(rows[-1]), flush=True)
    for name in SECTIONS:
        own = [row for row in rows if row["section"] == name]
        if own:
            print()
            print_rows(own, ("torch", "numpy", "numba"))
    return 0 if all(map(holds, rows)) else 1


def holds(row: Mapping[str, Any]) -> bool:
    """Whether a row reaches every bar of its section."""
    return all(row[metric] >= bar for metric, bar in BARS.get(row["section"], {}).items())


def nuclei(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The recipe, with the decoder that the planner chooses."""
    return _on_pictures("nuclei", folder, seed, options, [])


def components(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The same recipe without a head: touching voxels are one object."""
    return _on_pictures("components", folder, seed, options, ["plan.instances=components"])


def stars(_: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The same network and minutes with star-convex distances."""
    from instance_decoders import train_stars

    rows = []
    config = _config("stars", ROOT / "configs" / "nuclei.yaml", seed, options, [])
    for number, data in enumerate(_splits(_manifest("nuclei_dsb2018", options), options)):
        predict = train_stars(config, data, 60 * (options.minutes or MINUTES["stars"]))
        pairs = []
        for case in data.split("val"):
            image, reference = load_case(case, data)
            assert reference is not None
            ids = predict(image)[None]
            pairs.append((reference, replace(reference, instances=ids, layers=(ids > 0).astype(np.uint8))))
        rows.append({"fold": number} | pictures_score(pairs))
    return rows


def _on_pictures(name: str, folder: Path, seed: int, options: argparse.Namespace, changes: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for number, data in enumerate(_splits(_manifest("nuclei_dsb2018", options), options)):
        config = _config(name, ROOT / "configs" / "nuclei.yaml", seed, options, changes)
        model, steps = _trained(config, data, folder / str(number))
        rows.append({"fold": number, "steps": steps} | pictures_score(_pairs(model, data, options)))
    return rows


def spine(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Named vertebrae, three folds over all twelve cases: of the objects that are found, those named right.

    Each network takes the levels of some scan for the next ones, another network those of another scan, so three are averaged.
    """
    data = _manifest("spine_waterfat", options)
    recipe = ROOT / "configs" / "spine_waterfat.yaml"
    configs = {name: _config("spine", recipe, seed, options, changes) for name, changes in SPINE_NETWORKS.items()}
    together: list[Pair] = []
    alone: dict[str, list[Pair]] = {name: [] for name in configs}
    for number, fold in enumerate(_folds(data, list(data.cases), 3, seed)):
        models = {name: _trained(config, fold, folder / f"{number}_{name}")[0] for name, config in configs.items()}
        for name, model in models.items():
            alone[name] += _pairs(model, fold, options)
        together += _pairs(list(models.values()), fold, options)
    single = {f"identification_{name}": named_score(pairs)["identification"] for name, pairs in alone.items()}
    return [named_score(together) | single]


def dental(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Teeth of panoramic phantoms, by their FDI numbers."""
    pairs, steps = _on_phantoms("dental", "dental-panoramic", 60, 12, folder, seed, options)
    return [{"steps": steps} | named_score(pairs)]


def ivdm3seg(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Discs of phantoms in the layout of IVDM3Seg, seven a scan."""
    pairs, steps = _on_phantoms("ivdm3seg", "spine-discs", 16, 4, folder, seed, options)
    return [{"steps": steps} | pictures_score(pairs)]


def _on_phantoms(
    name: str, kind: Kind, count: int, val: int, folder: Path, seed: int, options: argparse.Namespace
) -> tuple[list[Pair], int]:
    """References and predictions of phantoms, by the recipe of this name; and its steps."""
    format = "png" if kind in PICTURES else "nifti"
    data = load_manifest(write_phantoms(folder / "data", kind, count, seed=seed, val=val, format=format))
    config = _config(name, ROOT / "configs" / f"{name}.yaml", seed, options, [])
    model, steps = _trained(config, data, folder / "run")
    return _pairs(model, data, options), steps


def named_score(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Of the objects that are found those named right, PQ of all labels together, and the mean Dice of labels that are there."""
    detected = right = found = total = 0
    quality, dice = 0.0, []
    for reference, prediction in pairs:
        overlaps = _overlaps(reference, prediction)
        matches = match(overlaps)
        named = overlaps.reference_classes[matches.reference] == overlaps.prediction_classes[matches.prediction]
        detected, right = detected + len(named), right + int(named.sum())
        names = reference.table.names
        of_class = [match(overlaps.of_class(index), 0.5) for index in range(1, len(names) + 1)]
        quality += sum(float(each.iou.sum()) for each in of_class)
        found, total = (
            found + sum(each.tp for each in of_class),
            total + sum(each.tp + (each.fp + each.fn) / 2 for each in of_class),
        )
        masks = [(reference.mask(name), prediction.mask(name)) for name in names]
        dice += [_dice(*each) for each in masks if each[0].any() or each[1].any()]
    return {"identification": right / max(1, detected), "pq": quality / total, "found": found, "dice": statistics.mean(dice)}


def torso(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Liver lesions of phantoms, those over `LESION_ML`; any shared voxel counts as found."""
    data = load_manifest(write_phantoms(folder / "data", "torso-ct", 30, seed=seed, val=10, format="nifti"))
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"manifest: {data.path}\ntime_budget: 15m\n")
    model, steps = _trained(_config("torso", recipe, seed, options, []), data, folder / "run")
    tp = fp = fn = exact = 0
    pairs = _pairs(model, data, options)
    for reference, prediction in pairs:
        voxel_ml = (reference.geometry.voxel_volume or 1) / 1000
        overlaps = _overlaps(reference, prediction)
        large, guessed = overlaps.reference_sizes * voxel_ml >= LESION_ML, overlaps.prediction_sizes * voxel_ml >= LESION_ML
        hit = np.zeros(len(large), bool)
        hit[overlaps.reference] = True
        is_right = np.zeros(len(guessed), bool)
        is_right[overlaps.prediction] = True
        tp, fn, fp = tp + int((hit & large).sum()), fn + int((~hit & large).sum()), fp + int((~is_right & guessed).sum())
        exact += int(large.sum() == guessed.sum())
    return [{"steps": steps, "f1": 2 * tp / max(1, 2 * tp + fp + fn), "count_exact": exact / len(pairs), "lesions": tp + fn}]


def axons(folder: Path, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Axons, each picture held out once."""
    data = _manifest("axon_sem", options)
    recipe = folder / "recipe.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    recipe.write_text(f"manifest: {data.path}\ntime_budget: 10m\n")
    pairs: list[Pair] = []
    for number, fold in enumerate(_folds(data, list(data.cases), len(data.cases), seed)):
        pairs += _pairs(_trained(_config("axons", recipe, seed, options, []), fold, folder / str(number))[0], fold, options)
    return [pictures_score(pairs)]


SECTIONS = {
    "nuclei": nuclei,
    "decoders_components": components,
    "decoders_stars": stars,
    "spine": spine,
    "torso": torso,
    "axons": axons,
    "dental": dental,
    "ivdm3seg": ivdm3seg,
}


def pictures_score(pairs: Sequence[Pair]) -> dict[str, Any]:
    """AP of all objects together, of the mean picture, and over IoU 0.5:0.95."""
    overlaps = [_overlaps(*pair) for pair in pairs]
    matches = [match(each) for each in overlaps]
    tp, fp, fn = (sum(getattr(each, name) for each in matches) for name in ("tp", "fp", "fn"))
    curves = np.array([average_precision(each) for each in overlaps])
    exact = statistics.mean(each.references == each.predictions for each in matches)
    return {
        "pictures": len(pairs), "ap50": tp / (tp + fp + fn), "ap50_mean": float(np.nanmean(curves[:, 0])),
        "ap50_95": float(np.nanmean(curves)), "tp": tp, "fp": fp, "fn": fn, "count_exact": exact,
    }  # fmt: skip


def _overlaps(reference: LabelMap, prediction: LabelMap) -> ObjectOverlaps:
    return object_overlaps(_objects(reference), _objects(prediction))


def _objects(labels: LabelMap) -> ObjectMap:
    """The objects of the things of a map of one layer."""
    assert labels.instances is not None
    things = [label.name for label in labels.table.labels if label.kind == "thing"]
    classes = labels.table.to_classes(labels.array, "labels")
    wanted = np.isin(classes, [labels.table.names.index(name) + 1 for name in things])
    return objects_from_ids(np.where(wanted, labels.instances[0], 0), classes)


def _pairs(model: Model | list[Model], data: Manifest, options: argparse.Namespace) -> list[Pair]:
    """References and predictions of the validation cases."""
    predictor = Predictor(model, options.device)
    pairs = []
    for case in data.split("val"):
        image, reference = load_case(case, data)
        assert reference is not None
        pairs.append((reference, predictor.predict(image).labels))
    return pairs


def _trained(config: Config, data: Manifest, folder: Path) -> tuple[Model, int]:
    """The model, and its steps."""
    result = train_model(RunOptions(config, data), folder)
    return result.model, result.history[-1].step


def _config(name: str, recipe: Path, seed: int, options: argparse.Namespace, changes: Sequence[str]) -> Config:
    length = f"time_budget={60 * (options.minutes or MINUTES[name])}"
    given = (f"seed={seed}", f"device={options.device}", length, *changes, *options.changes)
    last = {change.partition("=")[0]: change for change in given}
    return load_config(recipe, tuple(last.values()))


def _manifest(name: str, options: argparse.Namespace) -> Manifest:
    return load_manifest(ROOT / "data_manifests" / f"{name}.yaml", options.root)


def _splits(data: Manifest, options: argparse.Namespace) -> list[Manifest]:
    """The manifest as it is, or folds of its training cases, whose validation cases are never seen."""
    return _folds(data, list(data.split("train")), options.folds, 0) if options.folds else [data]


def _folds(data: Manifest, cases: list[Case], count: int, seed: int) -> list[Manifest]:
    """A manifest for each fold, whose validation cases are those held out."""
    folds = make_folds(cases, count, seed)
    return [
        replace(data, cases=tuple(replace(case, split="val" if case.id in fold else "train") for case in cases))
        for fold in folds.parts
    ]


def _dice(one: Any, other: Any) -> float:
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    raise SystemExit(main())
