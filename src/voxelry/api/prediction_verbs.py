"""The public verbs that segment scans."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.base.device import choose_device
from voxelry.base.notebook_progress import shows_progress
from voxelry.base.progress import BatchCallback, ProgressCallback, no_batch, no_progress
from voxelry.base.urls import is_url
from voxelry.cohort.inputs import survey_inputs
from voxelry.cohort.remote_files import public_url
from voxelry.cohort.scan_names import LeftOut
from voxelry.errors import UsageError

if TYPE_CHECKING:
    from voxelry.cohort.batch import Outcome
    from voxelry.cohort.run_settings import RunPlan
    from voxelry.cohort.scan_names import LeftOut
    from voxelry.core.model import Model
    from voxelry.formats.read_options import Repair
    from voxelry.inference.predict_options import PredictOptions
    from voxelry.inference.predictor import Predictor
    from voxelry.metrics.segmentation_task import SegmentationTask

__all__ = ["load_model", "predict"]

PathLike = str | os.PathLike[str]


def load_model(
    path: PathLike | Sequence[PathLike], *, device: str = "auto", network: str | None = None, **choices: Any
) -> Predictor:
    """Load a model, or several as an ensemble, to segment many scans with.

    Args:
        path: the folder ``model`` that training wrote, of a model or an ensemble, or the name of a model (`models` lists them);
            or several whose predictions are averaged.
        device: ``auto``, ``cpu``, ``cuda``...
        network: import path of the model's custom network, ``package.module:Class``; its code is run.
        choices: of `inference.predict_options.PredictOptions`: ``memory`` (``"4GiB"`` or bytes), ``overlap``, ``flips``, ``roi``,
            ``confidence``...

    Returns:
        A Predictor: ``.predict(volume) -> Prediction``.

    Raises:
        ModelError: not a model folder, or damaged; members of an ensemble that do not fit each other; or code that was not named.
        UsageError: an unknown choice, or a value out of range.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 2, format="png")
        >>> recipe = (
        ...     "{manifest: data/manifest.yaml, steps: 2, validations: 1, device: cpu, "
        ...     "plan: {patch_size: [32, 32], features: [4, 8], batch_size: 1}}"
        ... )
        >>> _ = Path("recipe.yaml").write_text(recipe)
        >>> _ = voxelry.train("recipe.yaml", "run")
        >>> predictor = voxelry.load_model("run/model", device="cpu")
        >>> predictor.predict(voxelry.read("data/images/chest_000.png")).labels.array.shape
        (256, 256)
    """
    from voxelry.inference.predictor import Predictor

    models, options = _models(path, network, choices)
    return Predictor(models, device, options)


def _models(
    path: PathLike | Sequence[PathLike], network: str | None, choices: Mapping[str, Any]
) -> tuple[list[Model], PredictOptions]:
    """The models of folders, with options that fit them; see `load_model`."""
    from voxelry.inference.predict_options import PredictOptions
    from voxelry.networks.weights import load_models

    options = PredictOptions.of(**choices)
    models = [model for folder in _model_folders(path) for model in load_models(folder, network)]
    if network is not None and all(model.plan.network.name != network for model in models):
        raise UsageError(f"network '{network}', but the model's is '{models[0].plan.network.name}'", remedy="Leave it out.")
    if options.flips and not any(model.plan.flips for model in models):
        raise UsageError("flips are asked for, but the model's plan names no axes to flip", remedy="Leave flips out.")
    return models, options


def _check_cluster(cluster: str, is_loaded: bool) -> None:
    """Refuse what names no cluster.

    Raises:
        UsageError: it does not, or the model is loaded here already.
    """
    if cluster and cluster not in ("ray", "slurm") and not cluster.startswith("ray://"):
        raise UsageError(f"cluster '{cluster}' is none that is known", remedy="Give ray, ray://host:port or slurm.")
    if cluster and is_loaded:
        raise UsageError("a loaded Predictor cannot go to a cluster", remedy="Give the model's folder.")


def _model_folders(path: PathLike | Sequence[PathLike]) -> list[Path]:
    """The folders of models that are given by folder or by name."""
    from voxelry.zoo.model_names import find_model

    return [find_model(model) for model in _folders(path)]


def _folders(path: PathLike | Sequence[PathLike]) -> list[PathLike]:
    return [path] if isinstance(path, str | os.PathLike) else list(path)


@shows_progress
def predict(
    model: PathLike | Sequence[PathLike] | Predictor,
    inputs: Sequence[PathLike] | PathLike,
    out: PathLike,
    *,
    task: SegmentationTask | None = None,
    formats: Sequence[str] = ("nifti",),
    device: str = "auto",
    progress: ProgressCallback = no_progress,
    series: str | None = None,
    repair: Sequence[Repair] | Repair = (),
    workers: int | None = None,
    time_limit: float | None = None,
    cluster: str = "",
    on_batch: BatchCallback = no_batch,
    on_plan: Callable[[RunPlan, Sequence[LeftOut]], None] = lambda *_: None,
    **choices: Any,
) -> list[Outcome]:
    """Segment scans and write their masks into a folder.

    Several scans are segmented by worker processes: one that crashes, hangs or takes too much memory costs its own scan alone. A
    ledger in the folder keeps the state of every scan, so that the same call again does what is left: scans that failed, scans
    that have changed, and all where model or settings have. A page (``report.html``) lists failures and doubtful scans.

    Args:
        model: a model folder (also of an ensemble) or the name of a model (`models` lists them), several to be averaged, or a
            loaded Predictor.
        inputs: files, DICOM folders, folders and trees of images, zip archives, patterns such as ``data/*.nii.gz``, dataset
            cards, lists of scans (CSV with a column ``image``, or a text file of paths), and URLs (``s3://bucket/scans``).
        out: folder for the masks, ``<case id><ending>``.
        task: ``semantic``: the label of each voxel. ``instance``: a map of the ids of objects, of 16 bits or more, and
            ``<case id>.json`` with what is known of each. ``panoptic``: labels, ids beside them, and the same for every object
            and label. None takes panoptic where the model has an instance head, else semantic.
        formats: names of `voxelry.formats.all_formats`, as ``nifti``, ``dicom-seg``, ``rtstruct``, ``dicom-sr``, ``seg-nrrd``.
        device: for a model folder: ``auto``, ``cpu``, ``cuda``...
        progress: called as ``progress(what, done, total)``: ``segmenting`` after each scan, ``patches`` within one.
        series: which volume of each input, as for `read`.
        repair: repairs to allow in a series, as for `read`.
        workers: worker processes; 0 for none. None takes none for a single scan or a loaded Predictor, else one a GPU, or as many
            as processors and memory allow.
        time_limit: seconds without progress after which a scan is given up, by default an hour; only workers can be ended.
        cluster: ``ray`` for the Ray cluster of this machine, or the URL ``ray://host:port`` of one: its nodes, which see the same
            folders, segment by one worker a GPU, or for up to 8 processors. ``slurm``: the nodes of a Slurm cluster, by as many
            jobs as `workers`, or 8.
        on_batch: called after each scan with what is done, failed and left, and the rate.
        on_plan: called before the first scan with what is to be done, and what of the inputs was left out.
        choices: for a model folder, as for `load_model` (including ``network``); ``confidence`` also writes
            ``<case id>.<confidence>.nii.gz``.

    Returns:
        One outcome per scan; that of a scan that cannot be read or segmented holds the reason, and the others continue.

    Raises:
        ModelError: the model cannot be used.
        MissingFileError: an input does not exist.
        UsageError: an unknown format or choice, choices together with a loaded Predictor, two scans of one name, outputs that
            would replace what is not ours, or another run that writes into the folder.
        OSError: the disk is full; the same call again goes on.

    Example:
        >>> from pathlib import Path
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 2, format="png")
        >>> recipe = (
        ...     "{manifest: data/manifest.yaml, steps: 2, validations: 1, device: cpu, "
        ...     "plan: {patch_size: [32, 32], features: [4, 8], batch_size: 1}}"
        ... )
        >>> _ = Path("recipe.yaml").write_text(recipe)
        >>> _ = voxelry.train("recipe.yaml", "run")
        >>> outcomes = voxelry.predict("run/model", "data/images", "masks", device="cpu")
        >>> [outcome.id for outcome in outcomes]
        ['chest_000', 'chest_001']
    """
    from voxelry.api.report_verb import leave_report
    from voxelry.cohort.cohort_run import run_cohort
    from voxelry.cohort.run_settings import PATIENCE, RunSettings, RunWatch
    from voxelry.cohort.task_files import default_task
    from voxelry.formats.read_options import ReadOptions
    from voxelry.inference.predict_options import PROBABILITY
    from voxelry.inference.predictor import Predictor, check_members

    if is_url(out):
        raise UsageError(
            f"{public_url(os.fspath(out))}: masks are written into a folder", remedy="Copy it there when it is done."
        )
    _check_cluster(cluster, isinstance(model, Predictor))
    network = choices.pop("network", None)
    if isinstance(model, Predictor):
        if choices or network is not None:
            raise UsageError(f"{', '.join(choices) or 'network'} beside a loaded Predictor", remedy="Give them to load_model.")
        loaded, folders, models, options = model, list[Path](), list(model.models), model.options
    else:
        loaded, folders = None, _model_folders(model)
        models, options = _models(folders, network, choices)
        check_members(models)
        if not cluster:  # its nodes have devices of their own
            choose_device(device)
    chosen = task or default_task(models[0].plan)
    is_scored = chosen == "semantic" or loaded is not None or bool(options.confidence)
    if not is_scored:  # an object's score is its mean probability
        options = replace(options, confidence=PROBABILITY)
    read = ReadOptions(series, (repair,) if isinstance(repair, str) else tuple(repair))
    names = tuple(dict.fromkeys(formats))
    survey = survey_inputs(_folders(inputs), len(models[0].plan.channels), series)
    seconds = PATIENCE if time_limit is None else time_limit
    outcomes = run_cohort(
        RunSettings(
            tuple(os.fspath(folder) for folder in folders),
            network,
            device,
            options,
            names,
            chosen,
            is_scored,
            read,
            Path(out),
            workers,
            seconds,
            cluster,
        ),
        models,
        lambda: loaded or Predictor(models, device, options),
        survey.scans,
        RunWatch(progress, on_batch, lambda plan: on_plan(plan, survey.left_out)),
    )
    leave_report(out, progress=progress)
    return outcomes
