"""Contestants of benchmarks/metrics.py: one function each, arrays in, a flat mapping of numbers out."""

from __future__ import annotations

import ast
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np

SPACING = (2.5, 0.8, 0.8)
TOLERANCE_MM = 2.0


def overlap_voxelry(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """Dice and IoU of every label."""
    from voxelry.metrics.overlap import count_values
    from voxelry.metrics.regions import count_regions

    judged = count_regions(count_values(reference, prediction), {str(label): (label,) for label in labels})
    dice, iou = judged.score("dice"), judged.score("iou")
    return _named(labels, dice=dice, iou=iou)


def overlap_simpleitk(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """Dice and IoU of every label."""
    import SimpleITK

    measure = SimpleITK.LabelOverlapMeasuresImageFilter()
    measure.Execute(SimpleITK.GetImageFromArray(prediction), SimpleITK.GetImageFromArray(reference))
    dice = [measure.GetDiceCoefficient(label) for label in labels]
    return _named(labels, dice=dice, iou=[measure.GetJaccardCoefficient(label) for label in labels])


def overlap_nnunet(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """nnU-Net's own `compute_metrics`, taken out of its module, whose other imports need the whole framework."""
    place = Path(next(iter(importlib.util.find_spec("nnunetv2").submodule_search_locations)))
    tree = ast.parse((place / "evaluation" / "evaluate_predictions.py").read_text())
    wanted = ("region_or_label_to_mask", "compute_tp_fp_fn_tn", "compute_metrics")
    tree.body = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name in wanted]
    for function in tree.body:
        function.returns = None
        for argument in function.args.args:
            argument.annotation = None
    names: dict[str, Any] = {"np": np}
    exec(compile(tree, "evaluate_predictions.py", "exec"), names)

    class Reader:
        def read_seg(self, which: Any) -> tuple[Any, dict[str, Any]]:
            return which, {}

    found = names["compute_metrics"](reference, prediction, Reader(), labels)["metrics"]
    return _named(labels, dice=[found[label]["Dice"] for label in labels], iou=[found[label]["IoU"] for label in labels])


def overlap_monai(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """Dice and IoU on one-hot maps."""
    import torch
    from monai.metrics import DiceMetric, MeanIoU
    from monai.networks import one_hot

    classes = max(labels) + 1
    truth = one_hot(torch.from_numpy(reference)[None, None], classes, dtype=torch.uint8)
    guess = one_hot(torch.from_numpy(prediction)[None, None], classes, dtype=torch.uint8)
    dice = DiceMetric(include_background=False, reduction="none")(guess, truth)[0]
    iou = MeanIoU(include_background=False, reduction="none")(guess, truth)[0]
    return _named(labels, dice=dice.tolist(), iou=iou.tolist())


def surface_voxelry(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """By surface elements."""
    from voxelry.metrics.surface import surface_distances

    found = surface_distances(reference, prediction, SPACING, labels).values()
    return _named(
        labels,
        hd95=[one.hausdorff(95) for one in found],
        msd=[one.msd_to_prediction() for one in found],
        msd_back=[one.msd_to_reference() for one in found],
        nsd=[one.nsd(TOLERANCE_MM) for one in found],
    )


def surface_deepmind(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """DeepMind's surface-distance."""
    np.Inf = np.inf  # the package was written for numpy 1
    import surface_distance

    rows = []
    for label in labels:
        found = surface_distance.compute_surface_distances(reference == label, prediction == label, SPACING)
        means = surface_distance.compute_average_surface_distance(found)
        robust = surface_distance.compute_robust_hausdorff(found, 95)
        rows.append((robust, *means, surface_distance.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)))
    hd95, msd, msd_back, nsd = zip(*rows, strict=True)
    return _named(labels, hd95=hd95, msd=msd, msd_back=msd_back, nsd=nsd)


def border_voxelry(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """By border voxels."""
    from voxelry.metrics.surface import surface_distances

    found = surface_distances(reference, prediction, SPACING, labels, definition="voxels").values()
    return _named(labels, hd95=[one.hausdorff(95) for one in found], assd=[one.assd() for one in found])


def border_monai(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """HD95, ASSD and (its time only: the definition is MONAI's own) NSD."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
    from monai.networks import one_hot

    classes = max(labels) + 1
    truth = one_hot(torch.from_numpy(reference)[None, None], classes, dtype=torch.uint8)
    guess = one_hot(torch.from_numpy(prediction)[None, None], classes, dtype=torch.uint8)
    hd95 = compute_hausdorff_distance(guess, truth, percentile=95, spacing=SPACING)[0]
    assd = compute_average_surface_distance(guess, truth, symmetric=True, spacing=SPACING)[0]
    compute_surface_dice(guess, truth, [TOLERANCE_MM] * len(labels), spacing=SPACING)
    return _named(labels, hd95=hd95.tolist(), assd=assd.tolist())


def lesions_voxelry(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """Counts and SQ of 26-connected lesions."""
    from voxelry.metrics.instances import connected_objects
    from voxelry.metrics.panoptic import instance_scores

    found = instance_scores(connected_objects(reference), connected_objects(prediction), max(labels) + 1)
    return _named(labels, tp=[s.tp for s in found], fp=[s.fp for s in found], fn=[s.fn for s in found], sq=[s.sq for s in found])


def lesions_panoptica(reference: Any, prediction: Any, labels: list[int]) -> dict[str, float]:
    """Counts and SQ, with the cc3d back end."""
    from panoptica import ConnectedComponentsInstanceApproximator, InputType, NaiveThresholdMatching, Panoptica_Evaluator
    from panoptica.utils.constants import CCABackend
    from panoptica.utils.segmentation_class import SegmentationClassGroups

    judge = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(cca_backend=CCABackend.cc3d),
        instance_matcher=NaiveThresholdMatching(),
        segmentation_class_groups=SegmentationClassGroups({f"label{label}": ([label], False) for label in labels}),
    )
    found = judge.evaluate(prediction, reference, verbose=False)
    found = {name: one[0] if isinstance(one, tuple) else one for name, one in found.items()}
    rows = [found[f"label{label}"] for label in labels]
    return _named(labels, tp=[r.tp for r in rows], fp=[r.fp for r in rows], fn=[r.fn for r in rows], sq=[r.sq for r in rows])


def _named(labels: list[int], **values: Any) -> dict[str, float]:
    return {f"{metric} {label}": float(v) for metric, row in values.items() for label, v in zip(labels, row, strict=True)}


warnings.simplefilter("ignore")
