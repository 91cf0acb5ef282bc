"""The site of the documentation: built without a warning, with links that lead somewhere, asking no network for anything."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""What a browser loads without being asked."""


class PageLinks(HTMLParser):
    """The anchors of a page, what it leads to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.targets: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "name"):
                self.anchors.add(str(value))
            elif key in ("href", "src"):
                (self.loaded if (tag, key) in LOADED else self.targets).add(str(value))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return {path.resolve(): PageLinks(path) for path in folder.rglob("*.html")}


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site):
    assert len(site) > 70
    broken = []
    for path, page in site.items():
        if path.name == "404.html":  # shown at any address: its links start at the root of the site
            continue
        for link in page.targets | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = site[target].anchors if target in site else {unquote(parts.fragment)} if target.is_file() else set()
            if unquote(parts.fragment) not in anchors:
                broken.append((path.name, link))
    assert broken == []


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    assert {link for page in site.values() for link in page.loaded if urlsplit(link).netloc} == set()


@pytest.mark.slow
def test_the_reference_shows_docstrings_with_their_examples(site):
    folder = next(path for path in site if path.name == "index.html" and path.parent.name != "docs").parent
    anchors = site[folder / "docs" / "reference" / "python" / "core.html"].anchors
    assert {"voxelry.core.Geometry", "voxelry.core.LabelMap"} <= anchors
    text = (folder / "docs" / "reference" / "python" / "metrics.html").read_text(encoding="utf-8")
    assert "Examples:" in text
    assert "&gt;&gt;&gt;" in text
