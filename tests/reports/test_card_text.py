"""Model cards on a page: structure of Markdown, and nothing that runs, loads or leads elsewhere."""

import re

import pytest

from voxelry.reports.card_text import card_html

CARD = """---
license: cc-by-4.0
tags: [x]
---
# Lungs

Text with **weight** and `code`.

- one
- two

| label | Dice |
| --- | --- |
| lung | 0.97 |
"""


def test_headings_lists_and_tables_are_shown_below_the_headings_of_the_page():
    html = str(card_html(CARD))
    assert "<h3>Lungs</h3>" in html
    assert "<li>two</li>" in html
    assert "<td>lung</td>" in html
    assert "<strong>weight</strong>" in html
    assert "cc-by-4.0" not in html  # what the card tells machines


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![x](https://example.org/x.png)",
        "[x](javascript:alert(1))",
        "<https://example.org>",
        "[x][1]\n\n[1]: https://example.org",
        "# <b onclick=x>",
        "| <svg onload=x> |\n| --- |\n| `</code><script>` |",
        "&#60;script&#62;",
        "```html\n<script>\n```",
        "a" * 100_000 + "[" * 5_000,
    ],
)
def test_no_text_of_a_card_becomes_an_element_that_acts(text):
    html = str(card_html(text))
    assert set(re.findall(r"<(\w+)", html)) <= {"p", "h3", "table", "thead", "tbody", "tr", "th", "td", "code", "pre"}
    assert not re.search(r"<[^>]*\s(href|src|on\w+)=", html)


def test_a_fence_that_does_not_end_is_text():
    assert "only" in str(card_html("---\nonly"))
