"""Shared parts of the command line: exit codes, messages, JSON output, options that several verbs take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxelry.cli.printable import printable
from voxelry.errors import UsageError

if TYPE_CHECKING:
    from voxelry.metrics.scores import Scores

SOME_FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder that a manifest's relative paths start from (default: VOXELRY_DATA).")
]
Device = Annotated[str, typer.Option("--device", help="Device: auto, cpu, cuda or cuda:N.")]
AeTitle = Annotated[str, typer.Option("--ae-title", help="Our own AE title.")]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="VOXELRY_PACS_TOKEN", help="Bearer token for DICOMweb; other users see options."),
]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="PEM file by which we say who we are where TLS asks.")]
Key = Annotated[Path | None, typer.Option("--key", help="PEM file of its key, if it lies in another file.")]
Authority = Annotated[
    Path | None, typer.Option("--authority", help="PEM file of authorities that vouch for the archive (default: the system's).")
]
Series = Annotated[
    str | None, typer.Option("--series", help="Volume to read from a folder: a key that inspect lists, NAME=VALUE, or largest.")
]
Repair = Annotated[
    list[str] | None, typer.Option("--repair", help="Repair a series: gap, duplicates, spacing or tilt; may be repeated.")
]


def print_json(value: dict[str, Any]) -> None:
    """Print one line of JSON on standard output."""
    typer.echo(json.dumps(value, allow_nan=False))


def say(text: str) -> None:
    """Print a message on standard error; characters that would steer a terminal are printed as escapes."""
    typer.echo(printable(text), err=True)


def tell(text: str, *, newline: bool = True) -> None:
    """Print a result on standard output, as `say` does."""
    typer.echo(printable(text), nl=newline)


def list_failures(failed: Sequence[tuple[str, str]], quiet: bool = False) -> None:
    """List what failed, and leave with the exit code for it.

    Args:
        failed: names and reasons; if empty, nothing happens.
        quiet: the reasons have been printed already.
    """
    if failed:
        for name, reason in [] if quiet else failed:
            say(f"failed: {name}: {reason}")
        raise typer.Exit(SOME_FAILED)


def show_scores(scores: Scores, as_json: bool, extra: dict[str, Any]) -> None:
    """Print scores as tables, or together with `extra` as one line of JSON."""
    from voxelry.cli.terminal import show
    from voxelry.reports.tables import measures_table, pooled_table, score_table, splits_table

    plain = scores.to_dict()
    if as_json:
        print_json({**plain, **extra})
        return
    for table in (score_table(plain), splits_table(plain), measures_table(plain), pooled_table(plain)):
        if table is not None:
            show(table)


def refuse_beside(flag: str, is_given: bool, other: str, remedy: str) -> None:
    """Refuse a flag that has no effect beside, or without, another.

    Raises:
        UsageError: it is given.
    """
    if is_given:
        raise UsageError(f"{flag} {other}, where it has no effect", remedy=remedy)


def seconds_of(text: str | None, option: str = "--time-budget") -> float | None:
    """Seconds of an option that takes a duration.

    Raises:
        UsageError: the text is no duration.
    """
    from voxelry.recipes.recipe import parse_duration

    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
