"""The public verb that writes models for other programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from voxelry.exchange.agreement import TestScan
    from voxelry.exchange.model_export import ExportedModel

__all__ = ["export_model"]

PathLike = str | os.PathLike[str]


@shows_progress
def export_model(
    model: PathLike,
    out: PathLike,
    *,
    format: str = "onnx",
    scan: PathLike | None = None,
    calibration: PathLike | None = None,
    progress: ProgressCallback = no_progress,
) -> ExportedModel:
    """Export a model in a format of other programs, and test that its labels stay the same.

    Args:
        model: a model folder, also of an ensemble or a cascade, or a name of `models`.
        out: the folder to write.
        format: ``onnx`` or ``openvino``: the model's folder with each network in that format in it; ``bundle``: a MONAI Bundle;
            ``openvino-int8``: OpenVINO in int8, by NNCF.
        scan: a scan to segment for the self-test, as `predict` takes it; by default one is made of the grey values of the
            training set.
        calibration: for ``openvino-int8`` a dataset card: ranges of numbers are taken from its training cases, loss of Dice and
            speed measured on its validation cases.
        progress: called as ``progress(what, done, total)``.

    Returns:
        The folder, its files, and the share of the scan's voxels with the labels that PyTorch gives.

    Raises:
        ModelError: the model cannot be used.
        ExportError: the format cannot hold it, fewer than 99.9 % of labels agree, or int8 costs over 0.01 of Dice; nothing
            is written then.
        UsageError: no such format, int8 without a card or the reverse, or `out` holds something else.
        MissingExtraError: the extra ``accelerate``, ``bundle`` or ``int8`` is not installed.

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
        >>> exported = voxelry.export_model("run/model", "exported")
        >>> "network.onnx" in exported.files, exported.agreement.share >= 0.999
        (True, True)
    """
    from voxelry.exchange.model_export import export_folder
    from voxelry.zoo.model_names import find_model

    source, target = find_model(model), Path(out)
    outputs = OutputFolder(target.parent, "export")
    test = None if scan is None else _test_scan(source, scan)
    with outputs.writing([target], [source]):
        return export_folder(source, target, format, test, None if calibration is None else Path(calibration), progress)


def _test_scan(model: PathLike, scan: PathLike) -> TestScan:
    """The one scan that a path holds.

    Raises:
        UsageError: it holds several.
    """
    from voxelry.cohort.inputs import find_scans
    from voxelry.datasets.channels import read_channels
    from voxelry.errors import UsageError
    from voxelry.exchange.agreement import TestScan
    from voxelry.networks.weights import load_models

    plan = load_models(model)[0].plan
    scans = find_scans([scan], len(plan.channels))
    if len(scans) != 1:
        raise UsageError(f"{scan}: holds {len(scans)} scans", remedy="Name one, for the self-test.")
    return TestScan(
        read_channels(scans[0].images, reference=plan.reference, channels=len(plan.channels), series=scans[0].series),
        scans[0].id,
    )
