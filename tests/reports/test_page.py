from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from voxelry.errors import MissingFileError, UsageError
from voxelry.reports.page import CaseView, write_page

VOID = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = """<script>alert("x")</script> & 'a' ../b"""
SUMMARY = {"mean_dice": 0.9, "mean_iou": 0.8, "labels": {"<i>liver": {"dice": 0.9, "iou": None}}, "cases": 2}


class Point(NamedTuple):
    step: int
    loss: float | None = None
    pseudo_dice: float | None = None


class Page(HTMLParser):
    """Checks that elements nest, and collects links, texts and elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.links += [value for name, value in attrs if name in {"href", "src"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A result folder with files of plain and of awkward names."""
    for name in ("overlays/a.png", "masks/a.nii.gz", "masks/a b#1?x=%20&y.dcm", "series/1.dcm", "javascript:alert(1)"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def full_page(folder: Path) -> Page:
    files = {
        "mask (NIfTI)": folder / "masks" / "a.nii.gz",
        "mask (DICOM SEG)": "masks/a b#1?x=%20&y.dcm",
        "series": "series",
        "<b>trap</b>": "javascript:alert(1)",
    }
    cases = [
        CaseView("a", "overlays/a.png", files, 0.5, ("touches the edge",)),
        CaseView(HOSTILE, remarks=(HOSTILE,)),
    ]  # fmt: skip
    curve = [Point(0, 2.0, 0.1), Point(100, 1.0, 0.8)]
    path = write_page(folder, title=HOSTILE, summary=SUMMARY, cases=cases, notes=[HOSTILE], curve=curve)
    assert path == folder / "index.html"
    return Page(path)


def test_every_link_is_relative_and_leads_to_a_file(folder):
    page = full_page(folder)
    assert len(page.links) == 6
    for link in page.links:
        assert not any(mark in link for mark in ":?#<>\"' ")
        assert not link.startswith("/")
        assert (folder / unquote(link)).exists()
    assert "series/" in page.links


def test_the_page_needs_no_network_and_no_script(folder):
    page = full_page(folder)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object", "b", "i"})
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "http" not in (folder / "index.html").read_text()


def test_hostile_names_are_shown_as_they_are(folder):
    page = full_page(folder)
    assert page.text.count(HOSTILE) == 5  # title, heading, note, case, remark
    assert "<i>liver" in page.text
    assert "<b>trap</b>" in page.text


def test_it_says_what_it_is_and_shows_the_scores_and_the_curve(folder):
    page = full_page(folder)
    for words in (
        "research use only",
        "not a medical device",
        "over 2 cases",
        "0.900",
        "0.800",
        "mean Dice 0.500",
        "QuantitativeReporting",
    ):
        assert words in page.text, words
    assert [tag for tag, _ in page.elements].count("svg") == 2


def test_it_can_be_read_out_loud(folder):
    page = full_page(folder)
    by_tag = dict(page.elements)
    assert by_tag["html"]["lang"] == "en"
    assert by_tag["img"]["alt"] == "Planes of a with its labels drawn on"
    assert all(attributes["scope"] in {"row", "col"} for tag, attributes in page.elements if tag == "th")
    assert all(attributes["aria-label"] for tag, attributes in page.elements if tag == "svg")
    headings = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3"}]
    assert headings[0] == 1
    assert headings.count(1) == 1
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes} <= targets


def test_a_page_without_references_has_no_results(tmp_path):
    page = Page(write_page(tmp_path, title="t", summary=None, cases=[CaseView("a")]))
    assert "Results" not in page.text
    assert "table" not in {tag for tag, _ in page.elements}


def test_a_link_to_nothing_is_refused_and_no_page_is_written(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.png"):
        write_page(tmp_path, title="t", summary=None, cases=[CaseView("a", "gone.png")])
    assert list(tmp_path.iterdir()) == []


def test_a_link_out_of_the_folder_is_refused(folder):
    inner = folder / "masks"
    with pytest.raises(UsageError, match="outside"):
        write_page(inner, title="t", summary=None, cases=[CaseView("a", "../overlays/a.png")])


def test_it_counts_objects_case_by_case_and_over_all(folder):
    summary = SUMMARY | {"pooled": {"lesion_f1": {"lesion": 0.75}}}
    cases = [CaseView("a", objects={"lesion": (3, 2)}), CaseView("b", objects={"lesion": (1, 1)}), CaseView("c")]
    page = Page(write_page(folder, title="t", summary=summary, cases=cases))
    assert "lesion: 3 predicted, 2 in the reference" in page.text
    text = " ".join(page.text.split())
    assert "Objects, counted one by one" in text
    row = text.split("cases with the right count")[1].split("Cases")[0].strip()
    assert row.startswith("lesion340.7500.501 of 2")
    assert "one by one" not in Page(write_page(folder, title="t", summary=SUMMARY, cases=[CaseView("a")])).text
