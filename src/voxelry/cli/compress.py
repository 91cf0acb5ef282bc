"""`voxelry compress`: trains a smaller student from a model or an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelry.cli.output import Json, Root, print_json, say, seconds_of, tell

if TYPE_CHECKING:
    from voxelry.training.compression import Comparison


def compress(
    model: Annotated[Path, typer.Argument(help="Folder of a model or an ensemble, the teacher; or a name of 'models'.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; the student is written into its folder 'model'.")],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="A recipe (default: the one beside the model, as training leaves it).")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe, as plan.features; may be repeated."),
    ] = None,
    time_budget: Annotated[str | None, typer.Option("--time-budget", help="Preparation and training time, such as 10m.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Train a smaller, faster model from a model or an ensemble, and compare both on held-out cases."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    with progress() as shown:
        result = api.compress(
            model,
            out,
            recipe=recipe,
            changes=change or [],
            time_budget=seconds_of(time_budget),
            resume=resume,
            root=root,
            progress=shown,
            on_step=shown.on_step,
        )
    if as_json:
        comparison = {} if result.comparison is None else result.comparison.to_dict()
        print_json({**comparison, "out": str(out), "model": str(result.path)})
    elif result.comparison is None:
        tell("No case was held out, so the student is not compared with its teacher.")
    else:
        tell(_text(result.comparison))
    say(f"\nModel: {result.path}")


def _text(comparison: Comparison) -> str:
    """The comparison in words."""
    teacher, student = (
        "no labels" if dice is None else f"{dice:.4f}" for dice in (comparison.teacher_dice, comparison.student_dice)
    )
    return "\n".join(
        [
            f"Held-out cases: {comparison.cases}",
            f"Mean Dice: {student}, of the teacher {teacher}",
            f"Time of a case: {comparison.student_seconds:.3g} s, of the teacher {comparison.teacher_seconds:.3g} s "
            f"({1 / comparison.time:.1f} times as fast)",
            f"Parameters: {comparison.student_parameters / 1e6:.2f} million, "
            f"of the teacher {comparison.teacher_parameters / 1e6:.2f} million",
        ]
    )
