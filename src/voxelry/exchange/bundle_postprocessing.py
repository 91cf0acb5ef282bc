"""A bundle's postprocessing: how labels are decided, and rules of clean-up."""

from __future__ import annotations

from collections.abc import Sequence

from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.errors import ModelError
from voxelry.exchange.bundle_config import BundleConfig
from voxelry.exchange.bundle_stages import NO_COUNTERPART, RUNS_TRUSTED, Arguments, transforms

AFTERWARDS = NO_COUNTERPART | {"Invert", "SaveImage", "Activations", "AsDiscrete", "CopyItems", "DeleteItems"}

RULES = {"KeepLargestConnectedComponent": "keep_largest", "FillHoles": "fill_holes"}
"""Transforms of MONAI -> our rules of clean-up."""


def label_decision(config: BundleConfig, dims: int, outputs: int, remarks: list[str]) -> tuple[list[tuple[str, Arguments]], bool]:
    """Rules of clean-up, and whether each class decides for itself.

    Raises:
        ModelError: a transform has no counterpart, or labels are decided as no plan decides.
    """
    rules, activation = [], ""
    decided: list[Arguments] = []
    for name, arguments in transforms(config, "postprocessing", AFTERWARDS):
        if name in RULES:
            reason = _unlike_rule(name, arguments, dims, remarks)
            if reason:
                raise ModelError(f"{config.file}: postprocessing has {name}, {reason}", remedy=RUNS_TRUSTED)
            rules.append((name, arguments))
        elif name not in AFTERWARDS:
            raise ModelError(f"{config.file}: postprocessing has {name}, which no plan has", remedy=RUNS_TRUSTED)
        elif name == "Activations":
            activation = next((each for each in ("sigmoid", "softmax") if arguments.get(each)), activation)
        elif name == "AsDiscrete":
            decided.append(arguments)
    reason = _undecided(decided, activation, outputs)
    if reason:
        raise ModelError(f"{config.file}: postprocessing {reason}", remedy=RUNS_TRUSTED)
    return rules, activation == "sigmoid" and not any(each.get("argmax") for each in decided)


def _undecided(decided: Sequence[Arguments], activation: str, outputs: int) -> str:
    """Why labels are decided otherwise than by a plan, which takes the largest logit or each class from 0.5 on; or nothing."""
    by_argmax = any(each.get("argmax") for each in decided)
    for each in decided:
        threshold = each.get("threshold")
        if threshold in (None, False):
            continue
        if threshold not in (0.5, True):
            return f"decides at {threshold}, where a plan decides at 0.5"
        if by_argmax and outputs > 2:
            return "takes the largest class and a threshold, which no plan does"
        if not by_argmax and activation != "sigmoid":
            return f"decides at {threshold} of {activation or 'logits'}, where a plan decides of probabilities by a sigmoid"
    return ""


def _unlike_rule(name: str, arguments: Arguments, dims: int, remarks: list[str]) -> str:
    """Why a rule has no counterpart, or nothing; what nearly has one is remarked."""
    if arguments.get("num_components", 1) != 1:
        return f"which keeps {arguments['num_components']} components, where a rule keeps the largest"
    wanted = arguments.get("applied_labels")
    if arguments.get("independent") is False and not (isinstance(wanted, int) or (isinstance(wanted, list) and len(wanted) == 1)):
        return "which takes several labels as one"
    if not isinstance(wanted, int | list | None) or (isinstance(wanted, list) and not all(isinstance(v, int) for v in wanted)):
        return f"whose applied_labels {wanted!r} are no values"
    if arguments.get("connectivity") not in (None, dims):
        remarks.append(f"{name} joins voxels at corners too, where the bundle has connectivity {arguments['connectivity']}")
    return ""


def clean_up_rules(table: LabelTable, rules: Sequence[tuple[str, Arguments]]) -> tuple[CleanUp, ...]:
    """Rules of each label."""
    result: dict[str, CleanUp] = {}
    for name, arguments in rules:
        wanted = arguments.get("applied_labels")
        values = [wanted] if isinstance(wanted, int) else wanted
        for label in table.labels:
            if values is None or label.value in values:
                rule = result.get(label.name) or CleanUp(label=label.name)
                result[label.name] = rule.model_copy(update={RULES[name]: True})
    return tuple(result.values())
