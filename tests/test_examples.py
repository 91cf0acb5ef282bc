"""Every public name has a short example that runs: the names of the package's stub and of every room's."""

import ast
import doctest
import importlib
import inspect
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "voxelry"
STUBS = sorted(PACKAGE.rglob("__init__.pyi"))


def names_of(stub: Path) -> list[tuple[str, str]]:
    """(module, name) of each function and class that a stub gives; a room that it gives has a stub of its own."""
    module = ".".join(stub.parent.relative_to(PACKAGE.parent).parts)
    imports = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return [(module, alias.asname or alias.name) for node in imports if node.module for alias in node.names]


NAMES = [pair for stub in STUBS for pair in names_of(stub) if pair[1] != "__version__"]


def public(module: str, name: str) -> object:
    return getattr(importlib.import_module(module), name)


def objects() -> dict[str, object]:
    """Each public function or class once, however many stubs give it; constants have no examples."""
    values = [public(module, name) for module, name in NAMES]
    callables = [value for value in values if inspect.isfunction(value) or inspect.isclass(value)]
    return {f"{value.__module__}.{value.__qualname__}": value for value in callables}


OBJECTS = objects()


@pytest.mark.parametrize("name", OBJECTS)
def test_a_public_name_has_an_example_that_runs(name, tmp_path, monkeypatch):
    """It runs in an empty folder, and knows no name but its own."""
    monkeypatch.chdir(tmp_path)
    value = OBJECTS[name]
    module = importlib.import_module(value.__module__)
    finder = doctest.DocTestFinder(recurse=inspect.isclass(value))
    tests = [test for test in finder.find(value, name, module=module, globs={value.__name__: value}) if test.examples]
    assert tests, "its docstring has no example (>>> ...)"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    for test in tests:
        doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_stub_gives_what_is_there_and_hides_no_module(module, name):
    value = public(module, name)
    assert not inspect.ismodule(value)
    assert value is not None
    folder = PACKAGE.parent.joinpath(*module.split("."))
    same = (folder / f"{name}.py").exists() or (folder / name).is_dir()
    assert not same, f"{module} has a module called {name} too: importing it would hide the name"


def test_every_stub_belongs_to_a_room_that_loads_names_when_they_are_used():
    for stub in STUBS:
        text = stub.with_suffix(".py").read_text(encoding="utf-8")
        assert "lazy_loader.attach_stub(__name__, __file__)" in text, stub
