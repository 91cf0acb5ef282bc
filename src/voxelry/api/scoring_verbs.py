"""The public verbs of scoring, `voxelry.evaluate` and `voxelry.compare`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.volume import LabelMap
from voxelry.datasets.manifest import Manifest
from voxelry.errors import UsageError
from voxelry.formats.reader import read_labels
from voxelry.metrics.predicted_map import PredictedMap
from voxelry.metrics.scores import Scores

if TYPE_CHECKING:
    from voxelry.cohort.comparison import Difference, PairedTest

__all__ = ["compare", "evaluate"]

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


@shows_progress
def evaluate(
    reference: LabelMap | Manifest | PathLike,
    prediction: LabelMap | PredictedMap | PathLike,
    *,
    metrics: Sequence[str] = ("overlap",),
    tolerance: float | Mapping[str, float] = 1.0,
    root: PathLike | None = None,
    regions: Mapping[str, Sequence[str]] | PathLike | None = None,
    progress: ProgressCallback = no_progress,
) -> Scores:
    """Score predictions against references.

    Args:
        reference: a LabelMap, a mask file, a folder of masks, or a manifest or its file.
        prediction: a LabelMap, a mask file, or a folder of masks named as the references; a mask may be an id map of objects. A
            `voxelry.metrics.PredictedMap` holds scores of objects and a map of confidence, which lie beside files.
        metrics: families of metrics, such as ``overlap`` (Dice and IoU; always included), ``rates`` (precision, recall,
            specificity, FPR, volume error), ``surface`` (HD, HD95, ASSD, MASD in mm, NSD), ``instances`` (objects matched at
            an IoU of 0.5) and ``panoptic`` (PQ); docs/reference/metric-table.md lists all.
        tolerance: NSD tolerance in mm, one for all labels, or one for each by name.
        root: folder that a manifest's relative paths start from.
        regions: unions of labels (BraTS's whole tumour), scored in place of the labels: region name -> names of its labels, or
            a recipe (its `loss.regions`) or a model folder that learnt them.
        progress: called as ``progress(what, done, total)`` as cases are scored.

    Returns:
        Scores for each case and label, with `mean_dice`, `mean_iou` and, for other families, `measures`, and `pooled` for
        metrics of the whole set. Of several cases, one that cannot be scored is listed in `failed` with its reason, and the
        others continue. With a manifest, cases of its split ``train`` enter no mean where others were scored
        (`Scores.held_out`). Warnings are logged of these, of predictions without a reference, and of cases that share no label.

    Raises:
        MissingFileError: a file, or the prediction of a reference, is missing.
        GridMismatchError: two maps lie on different grids.
        GeometryError: ``surface`` on a picture of unknown pixel size or a sheared grid.
        LabelError: values that the reference does not know.
        UsageError: an unknown metric, or one that needs scores of objects or a map of confidence, where there are none.

    Example:
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 2, format="png")
        >>> voxelry.evaluate("data/labels", "data/labels").mean_dice
        1.0
    """
    from voxelry.cohort.evaluation import evaluate_cohort
    from voxelry.cohort.predicted_files import read_predicted
    from voxelry.metrics.families import measure
    from voxelry.metrics.shared_labels import label_warnings

    unions = _regions_of(regions) if isinstance(regions, str | os.PathLike) else regions
    if isinstance(reference, Manifest):
        if not isinstance(prediction, str | os.PathLike):
            raise UsageError("a manifest beside a single map", remedy="Give a folder of predictions, or the case's LabelMap.")
        return evaluate_cohort(reference, Path(prediction), metrics, tolerance=tolerance, regions=unions, progress=progress)
    if isinstance(reference, LabelMap) or not isinstance(prediction, str | os.PathLike):
        truth = reference if isinstance(reference, LabelMap) else read_labels(reference)
        predicted = read_predicted(Path(prediction), truth.table) if isinstance(prediction, str | os.PathLike) else prediction
        scores = measure(truth, predicted, metrics=metrics, tolerance=tolerance, regions=unions)
        for sentence in label_warnings(scores):
            log.warning("%s", sentence)
        return scores
    start = None if root is None else Path(root)
    return evaluate_cohort(
        Path(reference), Path(prediction), metrics, start, tolerance=tolerance, regions=unions, progress=progress
    )


def _regions_of(path: PathLike) -> dict[str, tuple[str, ...]]:
    """The regions of a recipe or of a model folder.

    Raises:
        UsageError: it has none.
        ConfigError: a file that is no recipe.
        ModelError: a folder that is no model.
    """
    from voxelry.networks.weights import load_models
    from voxelry.recipes.recipe import load_config
    from voxelry.zoo.model_names import find_model

    folder = Path(path) if Path(path).is_file() else find_model(path)
    if folder.is_dir():
        regions = {region.name: region.labels for region in load_models(folder)[0].plan.regions}
    else:
        regions = dict(load_config(path).loss.regions)
    if not regions:
        raise UsageError(f"{path}: learns no regions", remedy="Name a recipe with loss.regions, or a model trained with one.")
    return regions


def compare(
    a: Scores | PathLike,
    b: Scores | PathLike,
    *,
    metrics: Sequence[str] = (),
    test: PairedTest = "permutation",
    seed: int = 0,
    report: PathLike | None = None,
) -> list[Difference]:
    """Compare two models scored on the same cases: paired differences with tests, corrected for the number of labels.

    Cases of the split ``train`` are left out where there are others.

    Args:
        a: Scores, or the folder, ``.parquet``, ``.csv`` or ``.json`` file that `voxelry evaluate --out` wrote.
        b: the other model's, likewise.
        metrics: names of columns such as ``dice``; empty takes all that both have.
        test: ``permutation`` or ``wilcoxon``.
        seed: seed of permutations and bootstrap.
        report: a page (HTML) to write: the differences, the change of each case, and both predictions of a few cases.

    Returns:
        A row for each metric and label: means, difference B - A with its 95 % interval by patient, p, corrected p, winner.

    Raises:
        UsageError: an unknown metric or test, or no case in common; or `report` is there and is no page of these two, or they are
            no files.
        ReadError: a file that holds no scores.

    Example:
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> _ = write_phantoms("data", "chest-xray", 3, format="png")
        >>> scores = voxelry.evaluate("data/labels", "data/labels")
        >>> rows = voxelry.compare(scores, scores, metrics=["dice"])
        >>> rows[0].metric, rows[0].difference
        ('dice', 0.0)
    """
    from voxelry.cohort.comparison import compare_scores

    sides = [side if isinstance(side, Scores) else Path(side) for side in (a, b)]
    if report is None:
        return compare_scores(sides[0], sides[1], metrics, test, seed)
    from voxelry.api.report_verb import check_page, leave_comparison

    files = [side for side in sides if isinstance(side, Path)]
    if len(files) < len(sides):
        raise UsageError("a page of scores that lie in no file", remedy="Write them with voxelry evaluate --out.")
    check_page(Path(report), files)
    rows = compare_scores(files[0], files[1], metrics, test, seed)
    leave_comparison(files, Path(report), rows, {"metrics": [*metrics] or "all", "test": test, "seed": seed})
    return rows
