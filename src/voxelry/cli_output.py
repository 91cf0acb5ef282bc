"""What the verbs of the command line share: exit codes, messages, the line of JSON, options that several verbs take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

SOME_FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Series = Annotated[
    str | None, typer.Option("--series", help="Which volume of a folder: a key that inspect lists, NAME=VALUE, or largest.")
]
Repair = Annotated[
    list[str] | None, typer.Option("--repair", help="Mend a series: gap, duplicates, spacing or tilt; may be repeated.")
]


def print_json(value: dict[str, Any]) -> None:
    """One line on standard output."""
    typer.echo(json.dumps(value, allow_nan=False))


def say(text: str) -> None:
    """A message on standard error."""
    typer.echo(text, err=True)


def list_failures(failed: Sequence[tuple[str, str]], quiet: bool = False) -> None:
    """Say what failed, and leave with the exit code for it.

    Args:
        failed: names and reasons; nothing happens where there is none.
        quiet: the reasons have been said.
    """
    if failed:
        for name, reason in [] if quiet else failed:
            say(f"failed: {name}: {reason}")
        raise typer.Exit(SOME_FAILED)
