"""Text that files may have a say in, made safe for a terminal: no control characters, no reversed writing."""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import sys

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but line feed and tab, marks that change the direction of writing, halves of surrogate pairs."""


def printable(text: str) -> str:
    r"""The text with its unsafe characters as escapes.

    Example:
        >>> printable("liver\x1b[2J")
        'liver\\x1b[2J'
    """
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)


def keep_chatter_out() -> None:
    """Separate Python's standard error from the process's, to which decoders in other languages write by themselves.

    What Python prints goes where it went; the file descriptor 2 leads to nowhere. A crash is still reported.
    """
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    faulthandler.enable(sys.stderr)


class PrintableFormatter(logging.Formatter):
    """Log lines without unsafe characters."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return printable(super().format(record))


class PrintableContent:
    """A table, or anything else that rich draws, with unsafe characters of its text replaced; rich's own colours stay.

    Args:
        content: what to draw.
    """

    def __init__(self, content: RenderableType) -> None:
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.content, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
