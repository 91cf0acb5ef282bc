"""Model cards: `README.md` in a model's folder, plain Markdown (Mitchell et al. 2019, doi:10.1145/3287560.3287596)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxelry.base.files import write_text
from voxelry.core.model import CleanUp, Model
from voxelry.core.plan import Fingerprint, Plan
from voxelry.datasets.card import Card
from voxelry.metrics.scores import Scores

MODEL_CARD_FILE = "README.md"

_INTENDED = (
    "Research on medical scans like those it was trained on. It is not a medical device: it has not been shown to be fit for "
    "diagnosis or treatment, and a qualified person must check every mask."
)
_LIMITS = (
    "Scans from other scanners, protocols, populations or body regions than the training scans may be segmented badly without a "
    "sign of it in the mask; `voxelry predict` flags scans that differ from the training scans.",
    "The model knows only the labels above; everything else in a scan becomes background or one of them.",
)

_SPREAD = ("label", "cases", "mean", "std", "median", "5th percentile", "lowest")
_SURFACES = {
    "hd95": "mean HD95, mm",
    "nsd": "mean NSD at 1 mm",
    "hd95_px": "mean HD95, pixels",
    "nsd_px": "mean NSD at 1 pixel",
}


def write_model_card(folder: Path, models: Sequence[Model], data: Card, scores: Scores | None, chosen: str = "") -> Path:
    """Write the card of a model, or of an ensemble, into its folder.

    Args:
        folder: folder of the model.
        models: the model, or the members of the ensemble.
        data: the card of the dataset.
        scores: scores of the held-out cases, None where there are none.
        chosen: how the configuration was chosen, as Markdown.

    Returns:
        The file.
    """
    sections = [
        f"# {data.title or data.name}",
        _summary(models),
        f"## Intended use\n\n{_INTENDED}",
        _data(data, models[0].card.fingerprint),
        _labels(models[0]),
        *(_plan(plan) for plan in _different([model.plan for model in models])),
        _training(models),
        *([f"## Choice of configuration\n\n{chosen}"] if chosen else []),
        _scores(scores),
        _clean_up(models[0].card.clean_up),
        _limits(models[0].card.fingerprint, scores),
    ]
    target = folder / MODEL_CARD_FILE
    write_text(target, "\n\n".join(section for section in sections if section) + "\n")
    return target


def _summary(models: Sequence[Model]) -> str:
    first = models[0]
    names = list(dict.fromkeys(model.plan.configuration for model in models))
    kind = f"An ensemble of {len(models)} networks ({' and '.join(names)})" if len(models) > 1 else f"A network ({names[0]})"
    return f"{kind} that segments {first.card.fingerprint.modality} scans. Trained with voxelry {first.card.version}."


def _data(data: Card, fingerprint: Fingerprint) -> str:
    lines = [f"## Data\n\n{data.description.strip()}".rstrip(), ""]
    facts = {
        "Set": f"{data.name}{f' ({data.homepage})' if data.homepage else ''}",
        "Licence": data.licence or "unknown",
        "Cases planned from": str(fingerprint.cases),
        "Modality, channels": f"{fingerprint.modality}; {', '.join(fingerprint.channels)}",
        "Voxels of a case (smallest, median, largest)": "; ".join(_by(shape) for shape in fingerprint.shapes),
    }
    if fingerprint.spacing is not None:
        facts["Median spacing"] = f"{_by(fingerprint.spacing)} mm"
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    if data.citation:
        lines += ["", "Cite:", "", *(f"- {text}" for text in data.citation)]
    return "\n".join(lines)


def _labels(model: Model) -> str:
    rows = []
    for label in model.labels.labels:
        codes = [code for code in (label.modifier, label.type) if code is not None]
        code = ", ".join(f"{code.meaning} ({code.scheme} {code.value})" for code in codes)
        voxels = model.card.fingerprint.label_voxels.get(label.name)
        rows.append((str(label.value), label.name, code, label.mirror or "", "" if voxels is None else str(voxels)))
    return "## Labels\n\n" + _table(("value", "name", "code", "mirror twin", "voxels in training"), rows)


def _plan(plan: Plan) -> str:
    network = plan.network
    spacing = (
        "as stored" if plan.spacing is None else _by([("as stored" if s is None else f"{s:g}") for s in plan.spacing]) + " mm"
    )
    facts = {
        "Orientation": plan.orientation or "as stored",
        "Spacing": spacing,
        "Patch": f"{_by(plan.patch_size)} voxels, {plan.batch_size} per batch",
        "Grey values": ", ".join(channel.scheme for channel in plan.normalisation),
        "Network": f"{network.name}, {len(network.features)} stages of {', '.join(map(str, network.features))} channels",
    }
    lines = [f"## Plan: {plan.configuration}", "", *(f"- {name}: {value}" for name, value in facts.items())]
    if plan.reasons:
        lines += ["", "Why:", "", *(f"- {reason}" for reason in plan.reasons)]
    return "\n".join(lines)


def _training(models: Sequence[Model]) -> str:
    columns = ("configuration", "cases", "steps", "seconds", "device", "computed in", "seed", "parameters", "pseudo-Dice")
    keys = ("cases", "steps", "seconds", "device", "computed_in", "seed", "parameters", "pseudo_dice")
    rows = [(model.plan.configuration, *(_cell(model.card.training.get(key)) for key in keys)) for model in models]
    return "## Training\n\n" + _table(columns, rows)


def _scores(scores: Scores | None) -> str:
    if scores is None:
        return "## Scores\n\nNo case was held out: how good the model is has not been measured."
    rows = []
    surfaces = {metric: name for metric, name in _SURFACES.items() if metric in scores.measures}
    for column, label in enumerate(scores.labels):
        values = scores.dice[:, column]
        values = values[~np.isnan(values)]
        spread = ("", "", "", "", "") if not len(values) else _spread(values)
        others = (scores.per_label[label][metric] for metric in surfaces)
        rows.append((label, str(len(values)), *spread, *map(_cell, others)))
    head = f"Dice on the scans' own grids, over {len(scores.cases)} held-out cases, which the networks had not seen. "
    mean = scores.to_dict()["mean_dice"]
    head += "No label occurs in them." if mean is None else f"Mean over labels: {mean:.4f}."
    return f"## Scores\n\n{head}\n\n" + _table((*_SPREAD, *surfaces.values()), rows)


def _spread(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[str, ...]:
    numbers = (values.mean(), values.std(), np.median(values), np.percentile(values, 5), values.min())
    return tuple(f"{number:.4f}" for number in numbers)


def _clean_up(rules: Sequence[CleanUp]) -> str:
    if not rules:
        return ""
    lines = []
    for rule in rules:
        steps = [f"components below {rule.min_mm3:g} mm^3 are removed"] if rule.min_mm3 else []
        steps += ["only the largest component is kept"] if rule.keep_largest else []
        steps += ["holes are filled"] if rule.fill_holes else []
        lines.append(f"- {rule.label}: {', '.join(steps)}")
    return "## Clean-up\n\nChosen because it raised the mean Dice of the held-out cases:\n\n" + "\n".join(lines)


def _limits(fingerprint: Fingerprint, scores: Scores | None) -> str:
    absent = [name for name, voxels in fingerprint.label_voxels.items() if not voxels]
    lines = [*_LIMITS]
    if absent:
        lines.append(f"In no training case: {', '.join(absent)}.")
    if scores is not None:
        lines.append(
            "Clean-up rules, and the configuration where there was a choice, were chosen on the cases of the scores above."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _different(plans: Sequence[Plan]) -> list[Plan]:
    """The plans, one per configuration."""
    return list({plan.configuration: plan for plan in plans}.values())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _by(values: Sequence[Any]) -> str:
    return " x ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
