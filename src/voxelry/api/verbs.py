"""The public verbs: each a few lines that join rooms. The command line calls these and nothing else.

What needs torch is imported when it is called, so that reading, checking and measuring start at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.api.training_verbs import check_budget, estimate, train
from voxelry.base.progress import ProgressCallback, StepCallback, no_progress, no_step
from voxelry.base.version import version
from voxelry.cohort.inputs import find_scans
from voxelry.core.plan import Fingerprint, Plan
from voxelry.core.volume import LabelMap
from voxelry.datasets.check import Problem, check_manifest
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import UsageError
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read, read_all, read_labels
from voxelry.formats.writer import write
from voxelry.metrics.scores import Scores
from voxelry.recipes.settings import PlanSettings

if TYPE_CHECKING:
    from voxelry.api.demo_run import DemoResult
    from voxelry.cohort.batch import Outcome
    from voxelry.cohort.comparison import Difference, PairedTest
    from voxelry.cohort.conversion import Converted
    from voxelry.formats.read_options import Repair
    from voxelry.inference.predictor import Predictor

__all__ = [
    "check", "compare", "convert", "demo", "estimate", "evaluate", "inspect", "load_model", "plan", "predict", "read",
    "read_all", "read_labels", "train", "version", "write",
]  # fmt: skip

PathLike = str | os.PathLike[str]


def check(manifest: PathLike, *, root: PathLike | None = None, deep: bool = True) -> list[Problem]:
    """Open every case of a dataset and list what is wrong.

    Args:
        manifest: a dataset card, or an MSD or nnU-Net ``dataset.json``.
        root: where its relative paths start.
        deep: decode images too, and look for NaN.

    Returns:
        Problems in the order of the cases; empty when all is well.

    Raises:
        ManifestError: the manifest itself cannot be used.
    """
    return check_manifest(load_manifest(manifest, root), deep=deep)


def plan(
    manifest: PathLike,
    *,
    root: PathLike | None = None,
    settings: PlanSettings | None = None,
    device: str = "auto",
    out: PathLike | None = None,
    progress: ProgressCallback = no_progress,
) -> tuple[Fingerprint, Plan]:
    """Look at a dataset's training cases and plan for a device.

    Args:
        manifest: a dataset card.
        root: where its relative paths start.
        settings: what must not be planned; with `memory` the plan is for a GPU of that memory, whatever the device.
        device: ``cpu`` or ``cuda`` (which need not be there); ``auto`` is a GPU where one is.
        out: a YAML file for the plan, which `train` takes, perhaps edited.
        progress: called as ``progress(what, done, total)`` as cases are looked at.

    Returns:
        What the dataset looks like, and the plan.

    Raises:
        ManifestError: no labelled training cases.
        ConfigError: settings that do not apply to the data.
    """
    from voxelry.base.device import choose_device
    from voxelry.planning.plan_file import save_plan
    from voxelry.planning.planner import make_plan
    from voxelry.training.setup import labelled_cases, look_at

    data = load_manifest(manifest, root)
    seen = look_at(data, labelled_cases(data, "train"), progress)
    planned = make_plan(seen, settings or PlanSettings(), choose_device(device).type if device == "auto" else device)
    planned = planned.model_copy(update={"reference_channel": data.card.reference_channel})
    if out is not None:
        save_plan(planned, out)
    return seen, planned


def load_model(
    path: PathLike | Sequence[PathLike], *, device: str = "auto", network: str | None = None, **choices: Any
) -> Predictor:
    """Load a model folder once, for many scans; or several, as an ensemble.

    Args:
        path: the folder ``model`` that training wrote, of one model or an ensemble; or several whose predictions are averaged.
        device: ``auto``, ``cpu``, ``cuda``...
        network: the import path of a network of your own, ``package.module:Class``, where the model has one: its code is run.
        choices: of `inference.predict_options.PredictOptions`: ``memory`` (``"4GiB"`` or bytes), ``overlap``, ``flips``, ``roi``,
            ``confidence``...

    Returns:
        A Predictor: ``.predict(volume) -> Prediction``.

    Raises:
        ModelError: not a model folder, or damaged; members of an ensemble that do not fit each other; or code that was not named.
        UsageError: an unknown choice, or a value out of range.
    """
    from voxelry.inference.predict_options import PredictOptions
    from voxelry.inference.predictor import Predictor
    from voxelry.networks.weights import load_models

    options = PredictOptions.of(**choices)
    folders = [path] if isinstance(path, str | os.PathLike) else list(path)
    return Predictor([model for folder in folders for model in load_models(folder, network)], device, options)


def predict(
    model: PathLike | Sequence[PathLike] | Predictor,
    inputs: Sequence[PathLike] | PathLike,
    out: PathLike,
    *,
    formats: Sequence[str] = ("nifti",),
    device: str = "auto",
    progress: ProgressCallback = no_progress,
    series: str | None = None,
    repair: Sequence[Repair] | Repair = (),
    **choices: Any,
) -> list[Outcome]:
    """Segment scans and write their masks into a folder.

    Args:
        model: a model folder (of an ensemble, too), several to be averaged, or a loaded Predictor.
        inputs: files, DICOM folders, or flat folders of images.
        out: where ``<case id><ending>`` is written.
        formats: names of `voxelry.formats.all_formats`, as ``nifti``, ``dicom-seg``, ``rtstruct``, ``dicom-sr``, ``seg-nrrd``.
        device: for a model folder.
        progress: called as ``progress(what, done, total)``: ``segmenting`` after each scan, ``patches`` within one.
        series: which volume of each input, as `read` takes it.
        repair: what may be mended in a series, as `read` takes it.
        choices: for a model folder, as for `load_model` (its ``network`` too); ``confidence`` writes
            ``<case id>.<confidence>.nii.gz`` beside the mask.

    Returns:
        One outcome a scan; a scan that cannot be read or segmented carries its reason and does not stop the others.

    Raises:
        ModelError: the model cannot be used.
        MissingFileError: an input is not there.
        UsageError: an unknown format or choice, choices beside a loaded Predictor, or two scans of one name.
    """
    from voxelry.cohort.batch import segment_scans
    from voxelry.formats.read_options import ReadOptions
    from voxelry.inference.predictor import Predictor

    if isinstance(model, Predictor):
        if choices:
            raise UsageError(f"{', '.join(choices)} beside a loaded Predictor", remedy="Give them to load_model.")
        predictor = model
    else:
        predictor = load_model(model, device=device, **choices)
    paths = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    scans = find_scans(paths, len(predictor.model.plan.channels))
    return segment_scans(
        predictor,
        scans,
        Path(out),
        formats,
        progress=progress,
        options=ReadOptions(series, (repair,) if isinstance(repair, str) else tuple(repair)),
    )


def evaluate(
    reference: LabelMap | PathLike,
    prediction: LabelMap | PathLike,
    *,
    metrics: Sequence[str] = ("overlap",),
    tolerance: float | Mapping[str, float] = 1.0,
    root: PathLike | None = None,
) -> Scores:
    """Compare predictions with references.

    Args:
        reference: a LabelMap, a mask file, a folder of masks, or a manifest.
        prediction: a LabelMap, a mask file, or a folder of masks named as the references.
        metrics: families of metrics, such as ``overlap`` (Dice and IoU; always measured), ``rates`` (precision, recall,
            specificity, FPR, volume error), ``surface`` (HD, HD95, ASSD, MASD in mm, NSD) and ``instances`` (objects matched at
            an IoU of 0.5); docs/reference/metric-table.md lists all.
        tolerance: of NSD in mm, one for all labels, or one for each by name.
        root: where a manifest's relative paths start.

    Returns:
        Scores for each case and label, with `mean_dice`, `mean_iou` and, for other families, `measures`. Of several cases, one
        that cannot be scored is listed in `failed` with its reason, and the others go on.

    Raises:
        MissingFileError: a file, or the prediction of a reference, is missing.
        GridMismatchError: two maps lie on different grids.
        GeometryError: ``surface`` on a picture of unknown pixel size or a sheared grid.
        LabelError: values that the reference does not know.
        UsageError: an unknown metric.
    """
    from voxelry.cohort.evaluation import evaluate_cohort
    from voxelry.metrics.families import measure

    if isinstance(reference, LabelMap) or isinstance(prediction, LabelMap):
        one = reference if isinstance(reference, LabelMap) else read_labels(reference)
        other = prediction if isinstance(prediction, LabelMap) else read_labels(prediction)
        return measure(one, other, metrics=metrics, tolerance=tolerance)
    start = None if root is None else Path(root)
    return evaluate_cohort(Path(reference), Path(prediction), metrics, start, tolerance=tolerance)


def compare(
    a: Scores | PathLike,
    b: Scores | PathLike,
    *,
    metrics: Sequence[str] = (),
    test: PairedTest = "permutation",
    seed: int = 0,
) -> list[Difference]:
    """Compare two models that were scored on the same cases: paired differences, tested, corrected over labels.

    Args:
        a: Scores, or what `voxelry evaluate --out` wrote: a folder, or a ``.parquet``, ``.csv`` or ``.json`` file.
        b: likewise.
        metrics: names of columns such as ``dice``; empty takes all that both have.
        test: ``permutation`` or ``wilcoxon``.
        seed: of permutations and bootstrap.

    Returns:
        A row for each metric and label: means, difference B - A with its 95 % interval by patient, p, corrected p, winner.

    Raises:
        UsageError: an unknown metric or test, or no case in common.
        ReadError: a file that holds no scores.
    """
    from voxelry.cohort.comparison import compare_scores

    one, other = (side if isinstance(side, Scores) else Path(side) for side in (a, b))
    return compare_scores(one, other, metrics, test, seed)


def convert(
    mask: PathLike,
    out: PathLike,
    *,
    reference: PathLike | None = None,
    format: str | None = None,
    labels: PathLike | None = None,
    series: str | None = None,
    repair: Sequence[Repair] | Repair = (),
    threshold: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Converted:
    """Convert a mask of any format to any other, onto the grid of the scan it belongs to.

    Where the mask's grid is the scan's but for flips, permuted axes or a part of it, voxels are re-indexed. On any other grid
    labels are resampled, and what that did to each of them is said: `Converted.losses`. Names, codes and colours travel as far
    as the format holds them; names without codes get those of the catalogue.

    Args:
        mask: a file of any readable format, or a folder with one mask file for each structure.
        out: the file to write; replaced if it exists. Its ending picks the format.
        reference: the scan: a DICOM folder, zip archive or file, or a NIfTI file; needed by formats that refer to a DICOM series.
        format: a name of the format, in place of the ending.
        labels: a file that says what the values mean: a dataset card, or a mapping of values to names.
        series: which series of the reference, as `read` takes it; None takes the one the mask names, if there are several.
        repair: what may be mended in the reference, as `read`. With ``tilt`` a tilted series is resampled, and written beside
            a DICOM SEG, which refers to it, as a series of its own.
        threshold: from which probability on a voxel has its label, as `read_labels`.
        options: of the format, by name, such as ``{"kind": "labelmap"}``.

    Returns:
        What was written, and what was decided and lost on the way.

    Raises:
        UsageError: a format that needs a reference, an option it does not have, or an unknown format.
        ExportError: the format cannot hold this; a DICOM SEG on a tilted series; an ending of no format.
        GridMismatchError: another frame of reference, pictures of different sizes, or no label on the reference's grid.
        LabelError: values that the table does not know, or fractions without a threshold.
        ReadError: mask or reference cannot be read.
    """
    from voxelry.cohort.conversion import convert_mask

    return convert_mask(
        Path(mask),
        Path(out),
        reference=None if reference is None else Path(reference),
        format=format,
        labels=None if labels is None else Path(labels),
        series=series,
        repair=(repair,) if isinstance(repair, str) else tuple(repair),
        threshold=threshold,
        options=options,
    )


def demo(
    out: PathLike = "voxelry-demo",
    *,
    manifest: PathLike | None = None,
    root: PathLike | None = None,
    seconds: float | None = None,
    progress: ProgressCallback = no_progress,
    on_step: StepCallback = no_step,
) -> DemoResult:
    """See the whole toolkit work: make phantoms (or take a real dataset), train, segment unseen scans, score, export, draw.

    Args:
        out: the folder for everything; made if missing.
        manifest: a dataset card in place of phantoms.
        root: where its relative paths start.
        seconds: of training, in place of the default.
        progress: called as ``progress(what, done, total)``, whatever is being done.
        on_step: called at every training step with its loss, pseudo-Dice and time left.

    Returns:
        Scores of the held-out scans and where everything lies.

    Raises:
        UsageError: `out` holds something that is no demo, or the dataset; or `seconds` is no time.
        ManifestError: the dataset cannot be used, or has no held-out cases with labels.
        ReadError: no held-out scan could be segmented.
    """
    if seconds is not None:
        check_budget(seconds)
    from voxelry.api.demo_run import run_demo

    return run_demo(Path(out), manifest, root, seconds, version(), progress, on_step)
