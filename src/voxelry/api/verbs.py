"""The public verbs, such as `voxelry.predict` and `voxelry.evaluate`; the command line calls these and nothing else.

Each is a few lines that join rooms. Modules that need torch are imported when a verb is called, so that reading, checking and
scoring start at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelry.api.training_verbs import check_budget
from voxelry.base.device import choose_device
from voxelry.base.notebook_progress import shows_progress
from voxelry.base.output_folder import OutputFolder
from voxelry.base.progress import ProgressCallback, StepCallback, no_progress, no_step
from voxelry.base.version import version
from voxelry.core.plan import Fingerprint, Plan
from voxelry.datasets.check import Problems, check_manifest
from voxelry.datasets.manifest import load_manifest
from voxelry.formats.inspection import inspect
from voxelry.formats.reader import read, read_all, read_labels
from voxelry.formats.writer import write
from voxelry.recipes.settings import PlanSettings

if TYPE_CHECKING:
    from voxelry.api.demo_run import DemoResult
    from voxelry.cohort.conversion import Converted
    from voxelry.formats.read_options import Repair

__all__ = [
    "check", "convert", "demo", "inspect", "plan", "read", "read_all", "read_labels", "version", "write",
]  # fmt: skip
"""The public names of this module; `docs/generate.py` writes the stubs of `voxelry.api` and `voxelry` from them."""

PathLike = str | os.PathLike[str]


@shows_progress
def check(
    manifest: PathLike,
    *,
    root: PathLike | None = None,
    deep: bool = True,
    report: PathLike | None = None,
    progress: ProgressCallback = no_progress,
) -> Problems:
    """Open every case of a dataset and list its problems.

    The report is a page with a picture of each case, its grid, grey values and label sizes, and with the cases unlike the
    others: masks that do not fit their images (moved or mirrored), left and right exchanged, unusual sizes, places, spacings and
    grey values. These are listed as notes, too.

    Args:
        manifest: a dataset card, or an MSD or nnU-Net ``dataset.json``.
        root: folder that its relative paths start from.
        deep: decode images too, and look for NaN and for the same voxels under two ids.
        report: a page (HTML) to write; all images are decoded for it.
        progress: called as ``progress(what, done, total)`` as cases are opened.

    Returns:
        Problems of the set, then of the cases in their order; empty if there are none. `cases` and `counts` say how many there
        are.

    Raises:
        ManifestError: the manifest itself cannot be used.
        UsageError: `report` is there and is no page that `check` wrote of this manifest.

    Example:
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> voxelry.check(write_phantoms("data", "chest-xray", 1, format="png"))
        []
    """
    dataset = load_manifest(manifest, root)
    if report is None:
        return check_manifest(dataset, deep=deep, progress=progress)
    from voxelry.reports.dataset_page import DatasetPage

    file, page = Path(report), DatasetPage(dataset)
    outputs = OutputFolder(file.parent, "check")
    outputs.check(file, [Path(manifest)])
    problems = check_manifest(dataset, deep=True, visit=page.add, progress=progress)
    problems += page.suspicions()
    with outputs.writing([file], [Path(manifest)]):
        page.write(file, problems)
    return problems


@shows_progress
def plan(
    manifest: PathLike,
    *,
    root: PathLike | None = None,
    settings: PlanSettings | None = None,
    device: str = "auto",
    out: PathLike | None = None,
    progress: ProgressCallback = no_progress,
) -> tuple[Fingerprint, Plan]:
    """Compute the fingerprint of a dataset's training cases, and the plan for a device.

    Args:
        manifest: a dataset card.
        root: folder that its relative paths start from.
        settings: overrides of the planner; with `memory` the plan is for a GPU with that memory, on any device.
        device: device to plan for, ``cpu`` or ``cuda`` (need not be present); ``auto`` is a GPU if there is one.
        out: a YAML file to write the plan to; `train` accepts it, edited or not.
        progress: called as ``progress(what, done, total)`` as cases are looked at.

    Returns:
        The fingerprint of the dataset, and the plan.

    Raises:
        ManifestError: no labelled training cases.
        ConfigError: settings that do not apply to the data.
        UsageError: no name of a device.

    Example:
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> manifest = write_phantoms("data", "chest-xray", 2, format="png")
        >>> fingerprint, plan = voxelry.plan(manifest, device="cpu")
        >>> fingerprint.cases, plan.dimensions
        (2, 2)
    """
    from voxelry.base.device import check_device_name
    from voxelry.planning.plan_file import save_plan
    from voxelry.planning.planner import make_plan
    from voxelry.training.setup import dataset_fingerprint, labelled_cases

    check_device_name(device)
    outputs = None if out is None else OutputFolder(Path(out).parent, "plan")
    if outputs is not None:
        outputs.check(Path(out or ""), [Path(manifest)])
    data = load_manifest(manifest, root)
    fingerprint = dataset_fingerprint(data, labelled_cases(data, "train"), progress)
    planned = make_plan(fingerprint, settings or PlanSettings(), choose_device(device).type if device == "auto" else device)
    planned = planned.model_copy(update={"reference_channel": data.card.reference_channel})
    if outputs is not None:
        with outputs.writing([Path(out or "")], [Path(manifest)]):
            save_plan(planned, out or "")
    return fingerprint, planned


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
    """Convert a mask of any format to any other, onto the grid of the scan that it belongs to.

    If the mask's grid is the scan's except for flips, permuted axes or cropping, voxels are re-indexed. From any other grid
    labels are resampled, and `Converted.losses` lists the effect on each. Names, codes and colours are kept as far as the format
    can hold them; names without codes get those of the catalogue.

    Args:
        mask: a file of any readable format, or a folder with one mask file for each structure.
        out: the file to write; its ending selects the format. A file of this name is replaced only if `convert` wrote it from the
            same inputs.
        reference: the scan: a DICOM folder, zip archive or file, or a NIfTI file; needed by formats that refer to a DICOM series.
        format: name of the format; overrides the ending.
        labels: a file with the names of the values: a dataset card, or a mapping of values to names.
        series: which series of the reference, as for `read`; None takes the one that the mask names, if there are several.
        repair: repairs to allow in the reference, as for `read`. With ``tilt`` a tilted series is resampled and written, next to
            the DICOM SEG that refers to it, as a series of its own.
        threshold: probability from which a voxel gets the label, as for `read_labels`.
        options: options of the format, by name, such as ``{"kind": "labelmap"}``.

    Returns:
        The file written, with decisions and losses on the way.

    Raises:
        UsageError: a format that needs a reference, an option it does not have, or an unknown format.
        ExportError: the format cannot hold this; a DICOM SEG on a tilted series; an ending of no format.
        GridMismatchError: another frame of reference, pictures of different sizes, or no label on the reference's grid.
        LabelError: values that the table does not know, or fractions without a threshold.
        ReadError: mask or reference cannot be read.

    Example:
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> manifest = write_phantoms("data", "torso-ct", 1, format="nifti")
        >>> result = voxelry.convert("data/labels/torso_000.nii.gz", "torso.seg.nrrd", labels=manifest)
        >>> result.format, len(result.labels)
        ('seg-nrrd', 6)
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


@shows_progress
def demo(
    out: PathLike = "voxelry-demo",
    *,
    manifest: PathLike | None = None,
    root: PathLike | None = None,
    seconds: float | None = None,
    progress: ProgressCallback = no_progress,
    on_step: StepCallback = no_step,
) -> DemoResult:
    """Run the whole toolkit: make phantoms (or take a real dataset), train, segment unseen scans, score, export, draw.

    Args:
        out: the folder for all output; made if missing.
        manifest: a dataset card to use instead of phantoms.
        root: folder that its relative paths start from.
        seconds: seconds of training, in place of the default.
        progress: called as ``progress(what, done, total)`` during every stage.
        on_step: called at every training step with its loss, pseudo-Dice and time left.

    Returns:
        Scores of the held-out scans, and the paths of all output.

    Raises:
        UsageError: `out` holds something other than a demo, or the dataset; or `seconds` is not above 0.
        ManifestError: the dataset cannot be used, or has no held-out cases with labels.
        ReadError: no held-out scan could be segmented.

    Example:
        >>> from dataclasses import replace
        >>> import voxelry
        >>> from voxelry.phantom.dataset import write_phantoms
        >>> from voxelry.phantom.phantom import ACQUISITIONS
        >>> coarse = replace(ACQUISITIONS["chest-xray"], spacing=(12.0, 12.0, 12.0))
        >>> manifest = write_phantoms("data", "chest-xray", 3, format="png", val=1, acquisition=coarse)
        >>> result = voxelry.demo("demo", manifest=manifest, seconds=1)
        >>> result.page.name, len(result.outcomes)
        ('index.html', 1)
    """
    if seconds is not None:
        check_budget(seconds)
    from voxelry.api.demo_run import run_demo

    return run_demo(Path(out), manifest, root, seconds, progress, on_step)
