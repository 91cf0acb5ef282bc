"""Text of a model card on a page: Markdown's headings, lists and tables; no link, picture or HTML of its own."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markupsafe import Markup

_LEFT_OUT = ["autolink", "entity", "html_block", "html_inline", "image", "link", "reference"]
_FENCE = "---"
_DEEPER = 2
"""Levels by which headings go down, below those of the page."""


def card_html(text: str) -> Markup:
    """A card as HTML, which is safe whatever stands in it.

    Args:
        text: Markdown; what is left out of it stays readable as text.
    """
    lines = text.splitlines()
    if lines[:1] == [_FENCE] and _FENCE in lines[1:]:  # what the card tells machines
        lines = lines[lines.index(_FENCE, 1) + 1 :]
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(_LEFT_OUT)
    tokens = reader.parse("\n".join(lines))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + _DEEPER)}"
    return Markup(reader.renderer.render(tokens, reader.options, {}))
