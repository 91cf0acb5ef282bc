"""`voxelry predict`: segments scans with a trained model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelry.cli.output import Device, Json, Repair, Series, list_failures, print_json, say, seconds_of

if TYPE_CHECKING:
    from voxelry.cohort.batch import Outcome
    from voxelry.cohort.run_settings import RunPlan
    from voxelry.cohort.scan_names import LeftOut


_LISTED = 20
"""Scans to review that are listed; `voxelry qc` lists them all."""


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            help="The folder 'model' that train wrote, a single model or an ensemble; or a name that 'voxelry models' lists."
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Files, folders or trees of images, zip archives, URLs, patterns, cards, CSV."),
    ],
    out: Annotated[str, typer.Option("--out", help="Folder for the masks, one per scan: <case id>.nii.gz.")],
    format: Annotated[
        list[str] | None,
        typer.Option("--format", help="Output format: nifti, dicom-seg, rtstruct, seg-nrrd...; may be repeated."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="semantic, instance (maps of ids) or panoptic (both); by default what the model was trained for."
        ),
    ] = None,
    series: Series = None,
    repair: Repair = None,
    ensemble: Annotated[
        list[Path] | None, typer.Option("--with", help="Another model folder, averaged with MODEL; may be repeated.")
    ] = None,
    average: Annotated[str | None, typer.Option("--average", help="Average of an ensemble: logits or probabilities.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="Memory limit of the whole process, such as 4GiB.")] = None,
    device_memory: Annotated[str | None, typer.Option("--device-memory", help="Memory limit on the GPU, such as 8GiB.")] = None,
    overlap: Annotated[
        float | None, typer.Option("--overlap", help="Overlap of neighbouring patches, as a share of a patch, from 0 to below 1.")
    ] = None,
    step: Annotated[float | None, typer.Option("--step", hidden=True)] = None,  # the former name of 1 - overlap
    flips: Annotated[
        bool | None, typer.Option("--flips/--no-flips", help="Average over mirrored patches, where the plan has flips.")
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option("--roi", help="Region of interest: whole, body (skips air), or coarse (a quick first pass locates labels)."),
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option("--confidence", help="Also write a confidence map: probability (of the chosen label) or entropy."),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="torch, compile, openvino, onnxruntime, or auto: the fastest that gives the same result."),
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Import path of the model's custom network; its code is run.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, help="Worker processes, 0 for none; by default as many as fit."),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", help="Time without progress after which a scan is given up (default: 1h).")
    ] = None,
    cluster: Annotated[
        str, typer.Option("--cluster", help="ray, ray://host:port or slurm: segment on the nodes of a cluster.")
    ] = "",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Segment scans; each mask is written on its scan's own grid. The same command again does what is left."""
    from voxelry import api
    from voxelry.base.progress import duration
    from voxelry.cli.terminal import progress

    choices = {
        "average": average, "memory": memory, "device_memory": device_memory, "overlap": overlap, "step": step, "flips": flips,
        "roi": roi, "confidence": confidence, "backend": backend, "network": network,
    }  # fmt: skip
    began = time.monotonic()
    with progress() as shown:
        outcomes = api.predict(
            [model, *(ensemble or [])],
            inputs,
            out,
            task=task,  # type: ignore[arg-type]
            formats=format or ["nifti"],
            device=device,
            progress=shown,
            series=series,
            repair=repair or [],  # type: ignore[arg-type]
            workers=workers,
            time_limit=seconds_of(time_limit, "--time-limit"),
            cluster=cluster,
            on_batch=shown.on_batch,
            on_plan=_say_plan,
            **{name: value for name, value in choices.items() if value is not None},
        )
    _say_remarks(outcomes)
    for outcome in outcomes:
        for flag in outcome.flags:
            say(f"{outcome.id}: {flag}")
    _say_review(outcomes, out)
    failed = [(outcome.id, outcome.error) for outcome in outcomes if outcome.error]
    if as_json:
        files = {outcome.id: {name: str(path) for name, path in outcome.files.items()} for outcome in outcomes}
        remarks = {outcome.id: [*outcome.remarks] for outcome in outcomes if outcome.remarks}
        flags = {outcome.id: [*outcome.flags] for outcome in outcomes if outcome.flags}
        print_json(
            {
                "cases": len(outcomes),
                "failed": dict(failed),
                "files": files,
                "flags": flags,
                "out": out,
                "remarks": remarks,
            }
        )
    else:
        flagged = sum(bool(outcome.flags) for outcome in outcomes)
        unusual = f"; {flagged} with something unusual, listed above" if flagged else ""
        earlier = sum(outcome.is_earlier for outcome in outcomes)
        before = f", {earlier} of them by an earlier run" if earlier else ""
        spent = duration(time.monotonic() - began)
        say(f"{len(outcomes) - len(failed)} of {len(outcomes)} scans segmented into {out}{before}, in {spent}{unusual}")
    list_failures(failed)


def _say_review(outcomes: Sequence[Outcome], out: str) -> None:
    """Say which scans quality control marked for review, the most doubtful first, and why."""
    quality = {outcome.id: outcome.facts["quality"] for outcome in outcomes if "quality" in outcome.facts}
    review = sorted((id for id in quality if quality[id]["review"]), key=lambda id: -float(quality[id]["doubt"]))
    for id in review[:_LISTED]:
        dice = quality[id]["dice"]
        reasons = [*([] if dice is None else [f"predicted Dice {dice:.2f}"]), *quality[id]["flags"]]
        say(f"review {id}: {'; '.join(reasons)}")
    if review:
        say(f"{len(review)} of {len(quality)} scans to review, the most doubtful first: voxelry qc {out}")


def _say_plan(plan: RunPlan, left_out: Sequence[LeftOut]) -> None:
    """Say what is about to be done, and what of the inputs was left out and why."""
    from voxelry.base.listing import counted, shown

    by_reason: dict[str, list[str]] = {}
    for item in left_out:
        by_reason.setdefault(item.reason, []).append(item.path.name)
    for reason, names in by_reason.items():
        say(f"left out: {shown(names)} ({reason})")
    done = f", {plan.scans - plan.left} done by an earlier run" if plan.left < plan.scans else ""
    workers, threads = counted(plan.workers, "worker", "workers"), counted(plan.threads, "thread", "threads")
    how = f" by {workers} of {threads} on {', '.join(plan.devices)}" if plan.workers and plan.left else ""
    say(f"{counted(plan.scans, 'scan', 'scans')}{done}: {plan.left} to segment{how}")


def _say_remarks(outcomes: Sequence[Outcome]) -> None:
    """Say each remark once, with the scans that it is about, so that the flags after them stand out."""
    from voxelry.base.listing import shown

    about: dict[str, list[str]] = {}
    for outcome in outcomes:
        for remark in outcome.remarks:
            about.setdefault(remark, []).append(outcome.id)
    segmented = sum(not outcome.error for outcome in outcomes)
    for remark, ids in about.items():
        say(f"{f'all {segmented} scans' if len(ids) == segmented > 1 else shown(ids)}: {remark}")
