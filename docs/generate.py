"""Writes the pages of the documentation that follow from the code: `python docs/generate.py`.

`tests/test_docs.py` fails where a page on disk is not what the code says today.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "voxelry"


def modules_page() -> str:
    """Every module with the first line of its docstring, room by room."""
    lines = ["# Modules", "", "Written by `python docs/generate.py` from the first line of each module's docstring.", ""]
    for folder in sorted({path.parent for path in PACKAGE.rglob("*.py")}):
        name = folder.relative_to(PACKAGE).as_posix()
        lines += [f"## {'voxelry' if name == '.' else name}", "", _summary(folder / "__init__.py"), ""]
        files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
        if files:
            lines += ["| module | what it is |", "|---|---|", *(f"| `{path.name}` | {_summary(path)} |" for path in files), ""]
    return "\n".join(lines)


def _summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("|", "\\|")


GENERATED: dict[str, Callable[[], str]] = {"docs/reference/modules.md": modules_page}
"""Page, below the repository's root -> the function that gives its text."""


def main() -> None:
    """Write every page."""
    for name, make in GENERATED.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
