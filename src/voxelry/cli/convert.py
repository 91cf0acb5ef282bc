"""The verb ``convert`` of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from voxelry.cli.output import Json, Repair, Series, print_json, say
from voxelry.errors import UsageError

_SWITCHES = {"true": True, "false": False}


def convert(
    mask: Annotated[Path, typer.Argument(help="A mask of any format, or a folder with one mask file for each structure.")],
    out: Annotated[Path, typer.Argument(help="The file to write; its ending picks the format, as .seg.dcm or .nii.gz.")],
    reference: Annotated[Path | None, typer.Option("--reference", help="The scan: DICOM folder or archive, or NIfTI.")] = None,
    format: Annotated[str | None, typer.Option("--format", help="The format, whatever the ending says, as dicom-seg.")] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="What the values mean: a dataset card, or {1: liver, ...} as YAML or JSON.")
    ] = None,
    series: Series = None,
    repair: Repair = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Of probabilities: label from here on.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the format, as kind=labelmap.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a mask to another format, on the grid of the scan it belongs to."""
    import dataclasses

    from voxelry import api

    done = api.convert(
        mask,
        out,
        reference=reference,
        format=format,
        labels=labels,
        series=series,
        repair=repair or [],  # type: ignore[arg-type]
        threshold=threshold,
        options=_options(change or []),
    )
    if as_json:
        print_json(
            {
                "path": str(done.path),
                "format": done.format,
                "labels": list(done.labels),
                "remarks": list(done.remarks),
                "losses": [dataclasses.asdict(loss) for loss in done.losses],
                "also": [str(path) for path in done.also],
            }
        )
        return
    for remark in (*done.remarks, *(f"written beside it: {path}" for path in done.also)):
        say(remark)
    typer.echo(f"{len(done.labels)} labels in {done.path} ({done.format})")


def _options(changes: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as options, ``true`` and ``false`` as such.

    Raises:
        UsageError: no ``=``.
    """
    found: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {change}: is no KEY=VALUE", remedy="Write for instance --set kind=labelmap.")
        found[key] = _SWITCHES.get(value.lower(), value)
    return found
