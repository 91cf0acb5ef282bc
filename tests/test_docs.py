"""The documents agree with the code."""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml
from pydantic import BaseModel

import voxelry as vx
from voxelry import errors
from voxelry.base.schema import parse
from voxelry.cli.main import app
from voxelry.core.labels import Label
from voxelry.datasets.card import Card
from voxelry.datasets.cases import parse_cases
from voxelry.datasets.splits import SplitRule
from voxelry.recipes.recipe import Config
from voxelry.recipes.settings import LossSettings, OptimiserSettings, PlanSettings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "voxelry"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
COMMANDS = typer.main.get_command(app).commands


def page(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)


def rows(name: str, heading: str) -> dict[str, str]:
    """The first table below a heading: key -> second column."""
    body = text(name).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", body, re.MULTILINE))


def generator() -> ModuleType:
    """`docs/generate.py`, as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = generator().GENERATED


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_what_the_code_says(name):
    assert text(name) == GENERATED[name](), "write it again: python docs/generate.py"


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_links_lead_somewhere(path):
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"[a-z]+:", target)]
    assert [target for target in targets if not (path.parent / target.partition("#")[0]).exists()] == []


def test_every_page_is_in_the_index():
    listed = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)\s]+)\)", text("docs/README.md"))}
    assert {path.resolve() for path in PAGES} - listed == {(ROOT / "docs" / "README.md").resolve()}


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_paths_named_in_prose_exist(path):
    named = re.findall(r"`((?:src|tests|docs|configs|data_manifests|notebooks)/[\w./-]*)`", path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_python_examples_compile_and_use_public_names():
    examples = [example for path in PAGES for example in blocks(page(path), "python")]
    assert len(examples) >= 3
    for example in examples:
        used = {node.attr for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Attribute) and _is_vx(node.value)}
        assert used <= set(vx.__all__)


def _is_vx(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "vx"


def commands_shown() -> list[list[str]]:
    """The arguments of every `voxelry` command in a code block."""
    lines = [line for path in PAGES for block in blocks(page(path), "sh") for line in block.splitlines()]
    lines += [line for path in PAGES for line in re.findall(r"^    (voxelry .*)", path.read_text(encoding="utf-8"), re.MULTILINE)]
    lines += [line for path in PAGES for line in re.findall(r"`(voxelry [a-z-]+ [^`]*)`", path.read_text(encoding="utf-8"))]
    words = [shlex.split(line) for line in lines]
    return [line[1:] for line in words if line and line[0].rpartition("/")[2] == "voxelry"]


def test_commands_shown_are_commands_with_such_options():
    shown = commands_shown()
    assert len(shown) > 8
    for verb, *rest in shown:
        if verb == "--help":
            continue
        command = COMMANDS[verb]
        command = getattr(command, "commands", {}).get(next(iter(rest), ""), command)
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in rest if word.startswith("--")} <= options, verb


@pytest.mark.parametrize("verb", COMMANDS)
def test_readme_names_every_verb_or_links_the_page_that_does(verb):
    assert "docs/reference/verbs.md" in text("README.md")
    assert re.search(rf"\bvoxelry {verb}\b", text("docs/reference/verbs.md"))


def test_readme_names_every_make_target_it_needs():
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = {word for path in PAGES for word in re.findall(r"(?:`|^|    )make ([a-z]+)", path.read_text(encoding="utf-8"), re.M)}
    assert {"demo", "test"} <= named <= targets


MANIFESTS = [
    (name, block)
    for name in ("README.md", "docs/tutorials/first-steps.md", "docs/reference/manifests.md")
    for block in blocks(name, "yaml")
]


@pytest.mark.parametrize(("name", "block"), MANIFESTS)
def test_manifest_examples_are_manifests(name, block):
    value = yaml.safe_load(block)
    assert parse_cases(value.pop("cases"), Path(name))
    parse(SplitRule, value.pop("split", {}), name)
    if value:
        assert parse(Card, value, name).table


def test_recipe_examples_are_recipes():
    examples = blocks("docs/reference/recipes.md", "yaml")
    assert examples
    for example in examples:
        parse(Config, yaml.safe_load(example), "docs/reference/recipes.md")


GROUPS = [("Top level", Config), ("`plan`", PlanSettings), ("`loss`", LossSettings), ("`optimiser`", OptimiserSettings)]


@pytest.mark.parametrize(("heading", "kind"), GROUPS, ids=str)
def test_recipe_page_has_every_key_and_its_default(heading, kind):
    listed = rows("docs/reference/recipes.md", heading)
    assert list(listed) == list(kind.model_fields)
    for key, field in kind.model_fields.items():
        if field.is_required():
            assert listed[key] == "required"
            continue
        default = field.get_default(call_default_factory=True)
        if default is None:
            assert listed[key] in ("none", "planned")
        elif isinstance(default, BaseModel):
            assert listed[key] in ("below", "planned")
        else:
            written = yaml.safe_load(listed[key])
            assert (tuple(written) if isinstance(written, list) else written) == default, key


@pytest.mark.parametrize(("heading", "kind", "more"), [("The card", Card, {"cases", "split"}), ("Labels", Label, set())])
def test_manifest_page_has_every_key(heading, kind, more):
    listed = rows("docs/reference/manifests.md", heading)
    assert set(listed) == set(kind.model_fields) | more
    assert {key for key, default in listed.items() if default == "required"} == {
        key for key, field in kind.model_fields.items() if field.is_required()
    }


def test_architecture_draws_the_layers_that_are_enforced():
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    drawn = next(block for block in blocks("ARCHITECTURE.md", "text") if block.startswith("cli.main\n"))
    assert drawn.splitlines() == [layer.replace("voxelry.", "") for layer in layers]


def test_architecture_draws_the_error_tree():
    drawn = next(block for block in blocks("ARCHITECTURE.md", "text") if block.startswith("VoxelryError"))
    assert drawn.strip() in re.sub(r"^    ", "", errors.__doc__, flags=re.MULTILINE)


def test_architecture_explains_every_public_word():
    words = {name for name in vx.__all__ if name[0].isupper()} - {"VoxelryError"}
    table = text("ARCHITECTURE.md").partition("## Words")[2].partition("\n## ")[0]
    assert words - set(re.findall(r"`(\w+)`", table)) == set()
