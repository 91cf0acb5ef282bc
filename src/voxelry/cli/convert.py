"""`voxelry convert`: converts a mask to another format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from voxelry.cli.output import Json, Repair, Series, print_json, refuse_beside, say, tell
from voxelry.errors import UsageError

_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def convert(
    mask: Annotated[Path, typer.Argument(help="A mask of any format, or a folder with one mask file for each structure.")],
    out: Annotated[Path, typer.Argument(help="The file to write; its ending selects the format, such as .seg.dcm or .nii.gz.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="The scan that the mask belongs to: DICOM folder or archive, or NIfTI.")
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Format to write, such as dicom-seg; overrides the ending.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Names of the label values: a dataset card, or {1: liver, ...} as YAML or JSON."),
    ] = None,
    series: Series = None,
    repair: Repair = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Probability from which a voxel gets the label.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the format, such as kind=labelmap.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a mask to another format, on the grid of the scan that it belongs to."""
    import dataclasses

    from voxelry import api

    for flag, value in (("--series", series), ("--repair", repair)):
        refuse_beside(flag, bool(value) and reference is None, "without --reference", "Name the scan by --reference.")
    result = api.convert(
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
                "path": str(result.path),
                "format": result.format,
                "labels": list(result.labels),
                "remarks": list(result.remarks),
                "losses": [dataclasses.asdict(loss) for loss in result.losses],
                "also": [str(path) for path in result.also],
            }
        )
        return
    for remark in (*result.remarks, *(f"also written: {path}" for path in result.also)):
        say(remark)
    tell(f"{len(result.labels)} labels in {result.path} ({result.format})")


def _options(changes: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as options; words for true and false as such.

    Raises:
        UsageError: no ``=``.
    """
    options: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {change}: is not KEY=VALUE", remedy="Write for example --set kind=labelmap.")
        options[key] = _SWITCHES.get(value.lower(), value)
    return options
