"""The verb ``predict`` of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import Device, Json, Repair, Series, list_failures, print_json, say


def predict(
    model: Annotated[Path, typer.Argument(help="The folder 'model' that train wrote: a model, or an ensemble.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files, DICOM folders, or folders of images.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for <case id>.nii.gz.")],
    format: Annotated[
        list[str] | None, typer.Option("--format", help="nifti, dicom-seg, rtstruct, seg-nrrd...; may be repeated.")
    ] = None,
    series: Series = None,
    repair: Repair = None,
    ensemble: Annotated[
        list[Path] | None, typer.Option("--with", help="One more model folder, averaged with MODEL; may be repeated.")
    ] = None,
    average: Annotated[str | None, typer.Option("--average", help="An ensemble's logits or probabilities.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="The whole process stays within it, as 4GiB.")] = None,
    device_memory: Annotated[str | None, typer.Option("--device-memory", help="What a GPU may be asked for, as 8GiB.")] = None,
    overlap: Annotated[
        float | None, typer.Option("--overlap", help="Of neighbouring patches, as a share of a patch, 0 to below 1.")
    ] = None,
    step: Annotated[float | None, typer.Option("--step", hidden=True)] = None,  # the former name of 1 - overlap
    flips: Annotated[
        bool | None, typer.Option("--flips/--no-flips", help="Average mirrored windows where the plan has such axes.")
    ] = None,
    roi: Annotated[str | None, typer.Option("--roi", help="whole, body (skip air) or coarse (a first pass finds where).")] = None,
    confidence: Annotated[
        str | None, typer.Option("--confidence", help="Write a map too: probability (of the winner) or entropy.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="torch, compile, openvino, onnxruntime, or auto: the fastest that agrees.")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Run this code: the import path of the model's own network.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Segment scans; masks land on each scan's own grid."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    choices = {
        "average": average, "memory": memory, "device_memory": device_memory, "overlap": overlap, "step": step, "flips": flips,
        "roi": roi, "confidence": confidence, "backend": backend, "network": network,
    }  # fmt: skip
    with progress() as shown:
        outcomes = api.predict(
            [model, *(ensemble or [])],
            inputs,
            out,
            formats=format or ["nifti"],
            device=device,
            progress=shown,
            series=series,
            repair=repair or [],  # type: ignore[arg-type]
            **{name: value for name, value in choices.items() if value is not None},
        )
    for outcome in outcomes:
        for line in (*outcome.remarks, *outcome.flags):
            say(f"{outcome.id}: {line}")
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
                "out": str(out),
                "remarks": remarks,
            }
        )
    else:
        say(f"{len(outcomes) - len(failed)} of {len(outcomes)} scans segmented into {out}")
    list_failures(failed)
