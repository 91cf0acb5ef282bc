"""Makes a starter model from a finished run: ``python configs/make_starter.py RUN NAME``.

Kernels are rounded to float16, the cases that the run held out are segmented by what is shipped and scored, and the folder
``src/voxelry/zoo/starters/NAME`` gets the model and its card, ``README.md`` in the form of the Hugging Face hub. What it says in
words stands in ``configs/starters/NAME.yaml``; every number in it is measured here.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
import yaml

import voxelry
from voxelry.base.files import read_json, read_yaml, write_text
from voxelry.base.schema import Frozen, parse
from voxelry.cohort.evaluation import summarise
from voxelry.cohort.statistics import bootstrap
from voxelry.core.model import Model
from voxelry.datasets.cases import Case
from voxelry.datasets.manifest import Manifest, load_manifest
from voxelry.errors import UsageError
from voxelry.metrics.scores import Scores
from voxelry.networks.weights import half_precision, load_models, save_ensemble, save_model
from voxelry.recipes.recipe import parse_config
from voxelry.zoo.model_row import SCORES

ROOT = Path(__file__).resolve().parents[1]
STARTERS = ROOT / "src" / "voxelry" / "zoo" / "starters"
LARGEST = 8_000_000
"""Bytes of a starter model at most."""

LOWEST = 3
"""Held-out cases of the lowest score that the card names."""


class StarterText(Frozen):
    """What a card says in words, and which numbers it shows.

    Attributes:
        title: heading.
        summary: what it segments, in which scans.
        recipe: recipe that the run was trained by, in `configs`.
        licence: licence of the weights, as the hub names it.
        attribution: who made the data, and under which licence.
        use: intended use.
        failures: when it fails.
        metrics: families to score, and the columns shown, the first of which is the model's own score.
        scores: metric -> its name in words.
        tags: of the hub.
        making: what was done besides training by the recipe.
    """

    title: str
    summary: str
    recipe: str
    licence: str
    attribution: str
    use: str
    failures: tuple[str, ...]
    metrics: tuple[str, ...] = ("overlap",)
    scores: dict[str, str]
    tags: tuple[str, ...] = ()
    making: str = ""


def make_starter(run: Path, name: str, *, root: Path | None = None, out: Path = STARTERS, text: Path | None = None) -> Path:
    """Make a starter model.

    Args:
        run: folder of a run that held cases out.
        name: name of the starter model.
        root: folder that the manifest's paths start from.
        out: folder of starter models.
        text: file of the card's words; None for that of `name`.

    Returns:
        Its folder.

    Raises:
        UsageError: the run held nothing out, or the model is too large.
    """
    words = parse(StarterText, read_yaml(text or ROOT / "configs" / "starters" / f"{name}.yaml"), f"the text of {name}")
    manifest = _held_out(run, root)
    models = load_models(run / "model")
    target = out / name
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        _save([half_precision(model) for model in models], place / "half", {})
        _refuse_large(place / "half", name)
        masks = {
            kind: _segmented(folder, manifest, place / kind)
            for kind, folder in (("whole", run / "model"), ("rounded", place / "half"))
        }
        scores = voxelry.evaluate(manifest, masks["rounded"], metrics=words.metrics)
        changed = _changed(masks["whole"], masks["rounded"], manifest.cases)
    record = _record(scores, words, changed)
    _save([half_precision(model) for model in models], target, record)
    write_text(target / "README.md", card_of(words, models, manifest, scores, record))
    return target


def _refuse_large(folder: Path, name: str) -> None:
    """Refuse a model that is too large, before anything is measured or written.

    Raises:
        UsageError: it is.
    """
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > LARGEST:
        raise UsageError(f"{name}: {size} bytes, more than {LARGEST}", remedy="Train a smaller network.")


def _held_out(run: Path, root: Path | None) -> Manifest:
    """The dataset of a run with the cases that it did not learn from, and nothing else.

    Raises:
        UsageError: there are none.
    """
    manifest = load_manifest(parse_config(read_yaml(run / "recipe.yaml"), str(run / "recipe.yaml")).manifest, root)
    split = read_json(run / "split.json")
    cases = tuple(case for case in manifest.cases if case.id in split["val"] and case.has_labels)
    if not cases or set(split["val"]) & set(split["train"]):
        raise UsageError(f"{run}: held no case out", remedy="Train with validation cases.")
    return replace(manifest, cases=cases)


def _save(models: Sequence[Model], folder: Path, record: Mapping[str, Any]) -> None:
    """Write a model, or an ensemble, with scores in its record."""
    described = [
        replace(model, card=model.card.model_copy(update={"training": {**model.card.training, **record}})) for model in models
    ]
    if len(described) == 1:
        save_model(described[0], folder)
    else:
        first = described[0]
        save_ensemble(described, folder, clean_up=first.card.clean_up, training=dict(record), quality=first.quality)


def _segmented(model: Path, manifest: Manifest, out: Path) -> Path:
    outcomes = voxelry.predict(model, [image for case in manifest.cases for image in case.images], out, workers=0)
    failed = [f"{outcome.id}: {outcome.error}" for outcome in outcomes if outcome.error]
    if failed:
        raise UsageError("; ".join(failed))
    return out


def _changed(one: Path, other: Path, cases: Sequence[Case]) -> dict[str, int]:
    """How many voxels have another label after rounding, of how many that have one before or after."""
    changed = labelled = 0
    for case in cases:
        before, after = (voxelry.read_labels(folder / f"{case.id}.nii.gz").array for folder in (one, other))
        changed += int(np.count_nonzero(before != after))
        labelled += int(np.count_nonzero((before > 0) | (after > 0)))
    return {"changed": changed, "labelled": labelled}


def _record(scores: Scores, words: StarterText, changed: Mapping[str, int]) -> dict[str, Any]:
    """The scores with their intervals, as the list of models reads them."""
    table = summarise(scores)
    rows = [
        {"metric": metric, "label": label, "value": value["mean"], "low": value["low"], "high": value["high"]}
        for metric in words.scores
        for label, value in table["metrics"][metric].items()
        if value["mean"] is not None
    ]
    groups = scores.groups or scores.cases
    if len(scores.labels) > 1:
        metric = next(iter(words.scores))
        mean = bootstrap(np.nanmean(scores.values[metric], axis=1), groups)
        rows.insert(0, {"metric": metric, "label": "", "value": mean.mean, "low": mean.low, "high": mean.high})
    rounded = [{**row, **{key: _shortened(row[key]) for key in ("value", "low", "high")}} for row in rows]
    return {
        SCORES: {"cases": len(scores.cases), "patients": len(set(groups)), "scores": rounded, "half_precision": dict(changed)}
    }


def _shortened(value: float | None) -> float | None:
    """Six digits; None for an interval that does not exist."""
    return None if value is None or math.isnan(value) else round(value, 6)


def card_of(words: StarterText, models: Sequence[Model], manifest: Manifest, scores: Scores, record: Mapping[str, Any]) -> str:
    """The model card, as the hub reads it."""
    first, held = models[0], record[SCORES]
    head = {
        "license": words.licence,
        "library_name": "voxelry",
        "pipeline_tag": "image-segmentation",
        "tags": ["medical", "segmentation", first.card.fingerprint.modality, *words.tags],
        "model-index": [
            {
                "name": words.title,
                "results": [
                    {
                        "task": {"type": "image-segmentation"},
                        "dataset": {
                            "name": manifest.card.title or manifest.card.name,
                            "type": manifest.card.name,
                            "split": "val",
                        },
                        "metrics": [
                            {"type": row["metric"], "name": _named(row, words), "value": row["value"]} for row in held["scores"]
                        ],
                    }
                ],
            }
        ],
    }
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {words.title}",
        words.summary,
        "**Not a medical device.** It has not been shown to be fit for diagnosis or treatment, and a qualified person must check "
        "every mask.",
        f"## Use\n\n{words.use.strip()}\n\n    voxelry predict {_name_of(words)} SCAN --out masks",
        _data(words, manifest, first),
        _scores(words, held),
        _cases(words, manifest, scores),
        "## When it fails\n\n" + "\n".join(f"- {line}" for line in words.failures),
        _making(words, models),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _name_of(words: StarterText) -> str:
    return Path(words.recipe).stem.removeprefix("starter_")


def _named(row: Mapping[str, Any], words: StarterText) -> str:
    return f"{words.scores[row['metric']]}, {row['label'] or 'mean of labels'}"


def _data(words: StarterText, manifest: Manifest, model: Model) -> str:
    card, fingerprint = manifest.card, model.card.fingerprint
    labels = ", ".join(f"{label.value} {label.name}" for label in model.labels.labels)
    lines = [
        f"## Data and attribution\n\n{words.attribution.strip()}",
        f"- Set: {card.title or card.name} ({card.homepage}); {fingerprint.cases} cases to train on",
        f"- Licence of the data: {card.licence}",
        f"- Modality: {fingerprint.modality}; channels: {', '.join(fingerprint.channels)}",
        f"- Labels: {labels}",
    ]
    return "\n".join([lines[0], "", *lines[1:], "", "Cite:", "", *(f"- {text}" for text in card.citation)])


def _scores(words: StarterText, held: Mapping[str, Any]) -> str:
    rows = [f"| {_named(row, words)} | {row['value']:.4f} | {_interval(row)} |" for row in held["scores"]]
    rounding, patients = held["half_precision"], held["patients"]
    return "\n".join(
        [
            f"## Scores\n\nOn {held['cases']} cases of {patients} patients that training did not see, on their own grids, by the "
            "files shipped here. Intervals: 95 %, bootstrap by patient. Clean-up rules, if any, were chosen on these "
            "cases.\n",
            "| metric | mean | 95 % interval |\n|---|---|---|",
            *rows,
            f"\nKernels are stored in float16. Against float32 this changed {rounding['changed']} of {rounding['labelled']} "
            "labelled voxels of these cases.",
        ]
    )


def _interval(row: Mapping[str, Any]) -> str:
    return "none: one patient" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"


def _cases(words: StarterText, manifest: Manifest, scores: Scores) -> str:
    """The lowest cases, and the means of each site where sites are known."""
    metric, name = next(iter(words.scores.items()))
    with np.errstate(all="ignore"):
        means = [float(np.nanmean(row)) if not np.isnan(row).all() else math.nan for row in scores.values[metric]]
    ranked = sorted((mean, case) for mean, case in zip(means, scores.cases, strict=True) if not math.isnan(mean))
    text = f"The lowest {name}: " + ", ".join(f"{mean:.3f} ({case})" for mean, case in ranked[:LOWEST]) + "."
    sites = {case.id: case.site for case in manifest.cases}
    by_site: dict[str, list[float]] = {}
    for mean, case in ranked:
        by_site.setdefault(sites[case], []).append(mean)
    if len(by_site) < 2:
        return f"### Case by case\n\n{text}"
    rows = [f"| {site} | {len(values)} | {np.mean(values):.4f} | {min(values):.4f} |" for site, values in sorted(by_site.items())]
    return "\n".join([f"### Case by case\n\n{text}\n", f"| kind | cases | mean {name} | lowest |\n|---|---|---|---|", *rows])


def _making(words: StarterText, models: Sequence[Model]) -> str:
    training = models[0].card.training
    facts = ", ".join(f"{training[key]} {key}" for key in ("steps", "seconds", "parameters") if key in training)
    return (
        f"## How it was made\n\nBy voxelry {models[0].card.version}, `{words.recipe}` ({facts}; on a "
        f"{training.get('device', 'cpu')}), then `configs/make_starter.py`, which measured every number above."
        f" {words.making}".rstrip()
    )


def main(run: Path, name: str, root: Path | None = None) -> None:
    """Make the starter model NAME from the folder of a finished run."""
    sys.stdout.write(f"{make_starter(run, name, root=root)}\n")


if __name__ == "__main__":
    typer.run(main)
