"""What mkdocs needs beside its settings: files of the whole repository, navigation, notebooks and Python's reference as pages.

Pages link each other as they lie in the repository, so the site has its folders: `docs/`, `notebooks/`, `benchmarks/`, and the
pages of the root. The navigation follows `docs/README.md`, whose tables name every page. The reference from docstrings has a page
for each room, with the public names of its stub.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "voxelry"
REFERENCE = "docs/reference/python"
_LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the pages of the repository, each at its place in it, every file that one links, and the pages made here."""
    pages = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
    linked = {target for page in pages for target in _targets(page) if target.suffix != ".md"}
    theme = [file for file in files if not Path(file.abs_src_path or ROOT).is_relative_to(ROOT / "docs")]
    stored = [_file(path, config) for path in (*pages, *sorted(linked))]
    made = {**_notebook_pages(), **_reference_pages()}
    return Files([*theme, *stored, *(File.generated(config, path, content=text) for path, text in made.items())])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read the navigation from the index of pages."""
    config.nav = [{"Home": "README.md"}, *_sections()]
    return config


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Lead links to notebooks to their pages, and drop links to folders, which a site cannot list."""
    if page.file.src_uri.startswith("notebooks/"):
        return markdown
    markdown = re.sub(r"(\]\([^)\s]+)\.ipynb\)", r"\1.md)", markdown)
    return re.sub(r"\[([^\]]*)\]\((?![a-z]+:)[^)\s]+/\)", r"\1", markdown)


def _file(path: Path, config: MkDocsConfig) -> File:
    name = path.relative_to(ROOT).as_posix()
    return File(name, str(ROOT), config.site_dir, config.use_directory_urls)


def _targets(page: Path) -> list[Path]:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    local = [target for target in _LINK.findall(prose) if not re.match(r"[a-z]+:", target)]
    return [path for target in local if (path := (page.parent / target).resolve()).is_file()]


def _sections() -> list[dict[str, list[object]]]:
    index = ROOT / "docs" / "README.md"
    text, _, records = index.read_text(encoding="utf-8").partition("\nDecision records")
    sections: list[dict[str, list[object]]] = []
    for section in text.split("\n## ")[1:]:
        names: list[object] = [_place(index, target) for target in _LINK.findall(section)]
        sections.append({section.partition("\n")[0]: [name for name in names if name != "README.md"]})
    sections[0]["Tutorials"].insert(0, "docs/README.md")
    places = {next(iter(section)): section for section in sections}
    places["Reference"]["Reference"].append({"Python": sorted(_reference_pages())})
    places["Explanation"]["Explanation"].append(
        {"Decision records": [_place(index, target) for target in _LINK.findall(records)]}
    )
    return sections


def _place(index: Path, target: str) -> str:
    return (index.parent / target).resolve().relative_to(ROOT).with_suffix(".md").as_posix()


def _notebook_pages() -> dict[str, str]:
    """Each notebook as a page: its text and its code, and the notebook itself to load."""
    pages = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells]
        shown = [
            text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
            for cell, text in zip(cells, texts, strict=True)
        ]
        pages[f"notebooks/{path.stem}.md"] = "\n\n".join([*shown, f"[This page as a notebook]({path.name})", ""])
    return pages


def _reference_pages() -> dict[str, str]:
    """A page a room with the docstrings of its public names."""
    pages = {}
    for stub in sorted(PACKAGE.glob("*/__init__.pyi")):
        room = stub.parent.name
        names = re.findall(r"^from \.\S+ import (\w+) as \w+$", stub.read_text(encoding="utf-8"), re.MULTILINE)
        entries = [f"::: voxelry.{room}.{name}\n" for name in names]
        pages[f"{REFERENCE}/{room}.md"] = "\n".join(
            [f"# voxelry.{room}", "", _first_line(stub.parent / "__init__.py"), "", *entries]
        )
    return pages


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].strip('"')
