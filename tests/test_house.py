"""The rules of the house that no linter knows."""

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "voxelry"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*/__init__.py"))

LONGEST_FILE = 400
TOUCH_FILES = {
    "core/catalogue.py", "cli/main.py", "recipes/recipe.py", "api/demo_run.py",
    "base/compiled.py", "base/files.py", "base/library_file.py", "base/output_folder.py", "base/malloc.py", "cli/printable.py",
    "networks/weights.py", "networks/folder_record.py", "planning/plan_file.py",
    "preparation/cache.py", "preparation/mapped_array.py",
    "training/checkpoint.py", "training/cross_validation.py", "training/folds.py", "training/model_card.py",
    "training/predictions.py", "training/run_files.py", "plot/charts.py",
    "cohort", "datasets", "exchange", "formats", "pacs", "phantom", "reports", "serving", "zoo",
}  # fmt: skip
RIDDLES = {"found", "made", "one", "part", "seen"}
"""Words that name nothing: an identifier says what it holds."""
HEAVY = {"highdicom", "monai", "nibabel", "numpy", "pydicom", "scipy", "skimage", "torch"}


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def texts() -> list[Path]:
    """Every text of the repository but the CI script."""
    folders = ("src", "tests", "configs", "data_manifests", "docs", "notebooks", "benchmarks")
    endings = {".py", ".j2", ".md", ".yaml", ".yml", ".toml", ".csv", ".ipynb", ".txt", ".json"}
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in endings]
    return [*inside, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "Makefile"]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_short_and_says_what_it_is(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("room", ROOMS)
def test_opening_a_room_loads_nothing_heavy(room):
    imports = [node for node in tree(PACKAGE / room / "__init__.py").body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [getattr(node, "module", None) or node.names[0].name for node in imports]
    assert {module.partition(".")[0] for module in modules}.isdisjoint(HEAVY | {"voxelry"})


def opened_files(path: Path) -> list[str]:
    """Calls that read or write a file, and imports of the helpers that do."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "voxelry.base.files":
            found += [alias.name for alias in node.names if alias.name != "free_name"]
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"open", "read_bytes", "read_text", "write_bytes", "write_text", "unlink"}:
                found.append(called)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_only_the_rooms_at_the_border_touch_files(path):
    if TOUCH_FILES.isdisjoint({name(path), name(path).partition("/")[0]}):
        assert opened_files(path) == []


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that a module imports: at its top, within functions, or for types alone."""
    imports: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            imports |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
    return imports & modules


def test_no_modules_import_each_other_in_a_circle():
    paths = {"voxelry." + name(path).removesuffix(".py").replace("/", "."): path for path in MODULES if path.stem != "__init__"}
    imports = {module: imported_modules(path, set(paths)) for module, path in paths.items()}
    reachable = {module: set(direct) for module, direct in imports.items()}
    for through in imports:
        for targets in reachable.values():
            if through in targets:
                targets |= reachable[through]
    circles = {tuple(sorted({other for other in reachable[module] if module in reachable[other]})) for module in imports}
    assert sorted(circles - {()}) == []


def remarks_compared(path: Path) -> list[int]:
    """Lines that look for a text in remarks or repairs, which are for people."""
    lines = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.comprehension) and node.ifs:
            operands = [node.iter]
        else:
            continue
        lines += [value.lineno for value in operands if isinstance(value, ast.Attribute) and value.attr in {"remarks", "repairs"}]
    return lines


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_code_decides_by_a_remark(path):
    assert remarks_compared(path) == []


def test_no_text_names_a_place_of_one_machine():
    place = re.compile("|".join([r"(?<![\w./~-])/" + "(work|home|root|Users)/", "shared" + "/data"]))
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in texts()
        for line in path.read_text(encoding="utf-8").splitlines()
        if place.search(line)
    ]
    assert found == []


def test_real_scans_are_asked_for_by_fixture_alone():
    asks = re.compile(r"environ.*" + "VOXELRY" + "_DATA")
    assert [path.name for path in (ROOT / "tests").rglob("*.py") if asks.search(path.read_text(encoding="utf-8"))] == [
        "conftest.py"
    ]


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(need for extra in project["optional-dependencies"].values() for need in extra)]
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    assert {re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", need)[0]).lower() for need in wanted} <= pinned


def test_no_file_name_stands_twice():
    names = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert {name for name, times in names.items() if times > 1} == set()


def test_no_class_name_stands_twice():
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(name(path))
    assert {key: where for key, where in places.items() if len(where) > 1} == {}


def identifiers(path: Path) -> set[str]:
    """What a module names: variables, parameters, attributes, functions, keywords of calls."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.arg | ast.keyword):
            names.add(node.arg or "")
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Attribute) and isinstance(getattr(node, "target", node), ast.Attribute):
            names.add(getattr(node, "target", node).attr)
    return names


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_identifiers_are_nouns(path):
    assert identifiers(path) & RIDDLES == set()


def test_the_top_level_has_rooms_only():
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__init__.pyi", "errors.py", "py.typed"}
