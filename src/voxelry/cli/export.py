"""`voxelry export`: writes a model in a format of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxelry.cli.output import Json, print_json, say


def export(
    model: Annotated[Path, typer.Argument(help="A model folder, or a name that `voxelry models` lists.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    format: Annotated[str, typer.Option("--format", help="Format: onnx, openvino, openvino-int8, bundle or nnunet.")] = "onnx",
    scan: Annotated[Path | None, typer.Option("--scan", help="Scan to segment for the self-test (default: one is made).")] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Dataset card to calibrate and measure openvino-int8 on.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model in a format of other programs, and test that its labels stay the same."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    with progress() as shown:
        exported = api.export_model(model, out, format=format, scan=scan, calibration=calibration, progress=shown)
    if as_json:
        print_json({
            "out": str(exported.folder),
            "format": exported.format,
            "files": list(exported.files),
            "agreement": exported.agreement.as_dict(),
        })  # fmt: skip
        return
    agreement = exported.agreement
    say(f"{exported.folder}: {agreement.share:.4%} of the labels of {agreement.scan} are PyTorch's ({agreement.voxels} voxels)")
