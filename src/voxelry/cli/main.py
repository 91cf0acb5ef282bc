"""The command line: each verb calls one function of `voxelry.api` and prints the result.

Exit codes: 0 success, 1 some cases failed (each is listed), 2 wrong usage, configuration or input. With ``--json`` the last line
of standard output is one JSON object; progress and messages go to standard error. A user's mistake, a full disk or a missing
permission ends in one message, never in a traceback.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from voxelry.cli.compress import compress
from voxelry.cli.convert import convert
from voxelry.cli.deidentify import deidentify
from voxelry.cli.export import export
from voxelry.cli.fetch import fetch
from voxelry.cli.follow_up import follow_up
from voxelry.cli.imports import import_model
from voxelry.cli.models import models_app
from voxelry.cli.output import (
    INTERRUPTED,
    SOME_FAILED,
    WRONG_USAGE,
    Device,
    Json,
    Root,
    list_failures,
    print_json,
    refuse_beside,
    say,
    seconds_of,
    show_scores,
    tell,
)
from voxelry.cli.predict import predict
from voxelry.cli.printable import PrintableFormatter, keep_chatter_out
from voxelry.cli.qc import qc
from voxelry.cli.report import report
from voxelry.cli.send import send
from voxelry.cli.serve import serve, token
from voxelry.cli.train import train
from voxelry.errors import VoxelryError
from voxelry.metrics.metric_table import FAMILIES


class _Verbs(TyperGroup):
    """The commands; errors become a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except VoxelryError as error:
            say(f"error: {error}")
            raise typer.Exit(WRONG_USAGE) from None
        except MemoryError:
            say("error: memory ran out. Close other programs, work on less at a time, or take a larger machine.")
            raise typer.Exit(WRONG_USAGE) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            path = error.filename2 or error.filename
            reason = f"{path}: {error.strerror}" if path else str(error)
            say(f"error: {reason}. Check that the path exists, can be accessed, and has free space.")
            raise typer.Exit(WRONG_USAGE) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="voxelry",
    help="Medical image segmentation: reads DICOM, NIfTI and X-ray, trains U-Nets, writes and scores masks.\n\n"
    "For research use; not a medical device.",
    no_args_is_help=True,
    cls=_Verbs,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Table = Annotated[str | None, typer.Option("--table", help="Print a table for publication: markdown or latex.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for all output.")] = Path("voxelry-demo"),
    manifest: Annotated[Path | None, typer.Option("--manifest", help="A dataset card to use instead of phantoms.")] = None,
    root: Root = None,
    time_budget: Annotated[str | None, typer.Option("--time-budget", help="Training time, such as 3m.")] = None,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline: make scans, train, segment held-out ones, score, export, draw."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    refuse_beside("--root", root is not None and manifest is None, "without --manifest", "Name a dataset card, or leave it out.")
    with progress() as shown:
        result = api.demo(
            out, manifest=manifest, root=root, seconds=seconds_of(time_budget), progress=shown, on_step=shown.on_step
        )
    failed = [outcome for outcome in result.outcomes if outcome.error]
    show_scores(result.scores, as_json, {"out": str(result.out), "seconds": round(result.seconds, 1)})
    say(f"\nEverything is in {result.out}: open {result.page}")
    list_failures([(outcome.id, outcome.error) for outcome in failed])


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A file, folder, zip archive or DICOMDIR.")],
    names: Annotated[bool, typer.Option("--names", help="Show names and ids of patients.")] = False,
    as_json: Json = False,
) -> None:
    """List the scans in a file or folder, and how each would be read; exit code 1 if an image cannot be read."""
    from voxelry import api
    from voxelry.cli.terminal import inspect_rows, inspect_table, progress, show

    with progress() as shown:
        rows = api.inspect(path, names=names, progress=shown)
    if as_json:
        print_json({"found": inspect_rows(rows)})
    else:
        show(inspect_table(rows))
    list_failures([(row.path, row.reason) for row in rows if row.is_failure], quiet=True)


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="A dataset card, or an MSD or nnU-Net dataset.json.")],
    root: Root = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page (HTML) with all cases in pictures and numbers, and look for suspicious ones."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Open every case of a dataset and list its problems."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    with progress() as shown:
        problems = api.check(manifest, root=root, report=report, progress=shown)
    errors = [problem for problem in problems if problem.kind == "error"]
    for problem in problems:
        say(": ".join(filter(None, (problem.kind, problem.case, problem.message))))
    if as_json:
        rows = [{"case": p.case, "file": p.file, "kind": p.kind, "message": p.message} for p in problems]
        objects = {name: statistics.model_dump(mode="json") for name, statistics in problems.objects.items()}
        counts = {"cases": problems.cases, "usable": problems.usable, "errors": len(errors)}
        print_json({**counts, "problems": rows, "objects": objects, "instances": problems.instances})
    else:
        which = (
            f"{problems.usable} of {problems.cases} cases can be read"
            if errors
            else f"Every case can be used: {problems.cases} cases"
        )
        say(f"{which} ({problems.counts})" if problems.cases else "There are no cases.")
        for name, statistics in problems.objects.items():
            say(f"{name}: {statistics.describe()}; told apart by {problems.instances}")
        if problems:
            say(f"{len(errors)} errors, {len(problems) - len(errors)} notes")
    if errors:
        raise typer.Exit(SOME_FAILED)


@app.command()
def plan(
    manifest: Annotated[Path, typer.Argument(help="A dataset card.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the plan to this YAML file, to edit and train with.")] = None,
    vram: Annotated[str | None, typer.Option("--vram", help="Plan for a GPU with this memory, such as 8GB.")] = None,
    configuration: Annotated[str | None, typer.Option("--configuration", help="2d, 3d, 3d_lowres or 3d_cascade.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Network, such as dynunet or resenc, or package.module:Class.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Size of the network, such as M, L or XL.")] = None,
    root: Root = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Print the fingerprint of a dataset's training cases and the plan made from it, with reasons."""
    from voxelry import api
    from voxelry.base.schema import parse
    from voxelry.cli.terminal import progress
    from voxelry.planning.plan_file import plan_tree, yaml_text
    from voxelry.recipes.settings import PlanSettings

    choices = {"memory": vram, "configuration": configuration, "network": network, "preset": preset}
    options = {"memory": "--vram", "configuration": "--configuration", "network": "--network", "preset": "--preset"}
    given = {key: f"{options[key]} {value}" for key, value in choices.items() if value is not None}
    settings = parse(PlanSettings, choices, "voxelry plan", given=given)
    with progress() as shown:
        fingerprint, planned = api.plan(manifest, root=root, settings=settings, device=device, out=out, progress=shown)
    content = {"fingerprint": fingerprint.model_dump(mode="json"), "plan": plan_tree(planned)}
    if as_json:
        print_json(content)
    else:
        tell(yaml_text(content))


app.command()(train)


@app.command()
def evaluate(
    reference: Annotated[Path, typer.Argument(help="A mask, a folder of masks, or a manifest.")],
    prediction: Annotated[Path, typer.Argument(help="A mask, or a folder of masks.")],
    metric: Annotated[list[str] | None, typer.Option("--metric", help=f"Family: {', '.join(FAMILIES)}; may be repeated.")] = None,
    tolerance: Annotated[float | None, typer.Option("--tolerance", help="NSD tolerance in mm (default: 1).")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write the scores and a page to look at: a .json, .csv or .parquet file, or a folder with all of them.",
        ),
    ] = None,
    regions: Annotated[
        Path | None, typer.Option("--regions", help="Score regions in place of labels: those of a recipe or of a model folder.")
    ] = None,
    table: Table = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Score predictions against references."""
    from voxelry import api
    from voxelry.cli.terminal import progress

    _check_table(table, as_json)
    has_distances = any(name.startswith("surface") for name in metric or [])
    refuse_beside("--tolerance", tolerance is not None and not has_distances, "without distances", "Add --metric surface.")
    refuse_beside("--root", root is not None and reference.is_dir(), "beside a folder of masks", "Leave it out.")
    inputs, tolerance, page = [reference, prediction], 1.0 if tolerance is None else tolerance, None
    if out is not None:
        from voxelry.cohort.evaluation import check_outputs

        check_outputs(out, inputs)
    choices: dict[str, Any] = {"metrics": metric or ["overlap"], "tolerance": tolerance}
    summary: dict[str, Any] = {}
    with progress() as shown:
        scores = api.evaluate(reference, prediction, root=root, regions=regions, progress=shown, **choices)
        if out is not None:
            from voxelry.api.report_verb import leave_report
            from voxelry.cohort.evaluation import write_scores

            how = choices if regions is None else {**choices, "regions": str(regions)}
            summary = write_scores(scores, out, inputs, how)
            page = leave_report(out, root=root, summary=summary, progress=shown)
    if table is None:
        show_scores(scores, as_json, {"out": None if out is None else str(out)})
    else:
        from voxelry.cohort.evaluation import summarise
        from voxelry.reports.tables import paper_table

        summary = summary or summarise(scores)
        tell(paper_table(summary, table), newline=False)
        if "pooled_metrics" in summary:
            tell("\n" + paper_table({"metrics": summary["pooled_metrics"]}, table), newline=False)
    if page is not None:
        say(f"Open {page}")
    list_failures(list(scores.failed.items()), quiet=True)  # they were logged


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Scores written by evaluate --out: a folder or file.")],
    b: Annotated[Path, typer.Argument(help="Scores of the other model on the same cases.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Column to compare, such as dice; may be repeated.")
    ] = None,
    test: Annotated[str, typer.Option("--test", help="Test: permutation or wilcoxon.")] = "permutation",
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page (HTML): differences, and both predictions of a few cases.")
    ] = None,
    table: Table = None,
    as_json: Json = False,
) -> None:
    """Test which of two models is better, for each label and metric."""
    import dataclasses

    from voxelry import api
    from voxelry.reports.tables import comparison_table

    _check_table(table, as_json)
    differences = api.compare(a, b, metrics=metric or [], test=test, report=report)  # type: ignore[arg-type]
    rows = [dataclasses.asdict(row) for row in differences]
    if as_json:
        print_json({"differences": rows, "wins": {side: sum(row["winner"] == side for row in rows) for side in ("A", "B")}})
    else:
        tell(comparison_table(rows, table or "markdown"), newline=False)


app.command()(predict)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="The --out folder of a predict.")],
    export: Annotated[
        Path | None, typer.Option("--export", help="Also write every case: a table (.csv, .parquet) or the run manifest (.json).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how far a run is: cases done, running, failed and left, also while it runs; exit code 1 if some failed."""
    import dataclasses

    from voxelry import api

    state = api.status(folder, export=export)
    if as_json:
        print_json({**dataclasses.asdict(state), "folder": str(folder)})
    else:
        from voxelry.cli.terminal import show, status_table

        show(status_table(state))
    list_failures(list(state.failed.items()))


app.command()(qc)
app.command()(deidentify)
app.command()(follow_up)
app.command("import")(import_model)
app.command()(convert)
app.command()(compress)
app.command()(export)
app.command()(report)
app.command()(fetch)
app.command()(send)
app.command()(serve)
app.command()(token)
app.add_typer(models_app, name="models")


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    from voxelry.base.version import version

    if as_json:
        print_json({"version": version()})
    else:
        tell(version())


def _check_table(style: str | None, as_json: bool) -> None:
    """Refuse an unknown table style, or one beside JSON, before scoring starts."""
    if style is not None:
        refuse_beside("--table", as_json, "beside --json", "Give one of the two.")
        from voxelry.reports.tables import text_table

        text_table([], [], style)


def main() -> None:
    """Run the command line.

    Warnings of voxelry are shown; of the libraries that it uses only errors are, since their warnings may quote patients' names.
    What decoders in other languages write to standard error by themselves is not shown: the error that follows says what counts.
    """
    keep_chatter_out()
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.levelno >= logging.ERROR or record.name.startswith("voxelry"))
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)
    app()
