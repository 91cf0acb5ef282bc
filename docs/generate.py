"""Writes the pages of the documentation that follow from the code: `python docs/generate.py`.

`tests/test_docs.py` fails where a page on disk is not what the code says today.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
import yaml
from pydantic import BaseModel

from voxelry.augmentation.augment_settings import AUGMENT_SETS, with_keys_of
from voxelry.augmentation.augmentation import IntensityAugmentation, SpatialAugmentation
from voxelry.augmentation.colour import Colour
from voxelry.augmentation.registry import AUGMENTATIONS, Augmentations
from voxelry.base.extras import EXTRAS
from voxelry.cli.main import app
from voxelry.core.architectures import ARCHITECTURES, DEFAULT_NETWORK, Architecture
from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES
from voxelry.formats.file_format import Format
from voxelry.formats.table import BUILT_IN
from voxelry.metrics.empty_policy import EmptyPolicy
from voxelry.metrics.metric_table import FAMILIES, Family
from voxelry.planning.patch_budget import WIDTHS
from voxelry.recipes.recipe import Config
from voxelry.recipes.settings import LossSettings, OptimiserSettings, PlanSettings

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
            lines += ["| module | description |", "|---|---|", *(f"| `{path.name}` | {_summary(path)} |" for path in files), ""]
    return "\n".join(lines)


def _summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("|", "\\|")


def networks_page() -> str:
    """The table of networks."""
    lines = [
        "# Networks",
        "",
        "Written by `python docs/generate.py` from the table in `src/voxelry/core/architectures.py`. A recipe names a network by"
        " `plan.network`, and a size by `plan.preset`; without either the planner takes"
        f" `{DEFAULT_NETWORK}`. Networks of your own: [how to add a network](../how-to/add-a-network.md).",
        "",
        "| network | description | source | presets | extra |",
        "|---|---|---|---|---|",
    ]
    for name, row in ARCHITECTURES.items():
        extras = ", ".join(sorted({f"`{EXTRAS[module]}`" for module in row.modules}))
        presets = ", ".join(f"`{size}`" for size in row.presets)
        lines.append(f"| `{name}` | {row.title} | {row.source} | {presets} | {extras} |")
    lines += [
        "",
        "Properties that the planner and the checks use:",
        "",
        "| network | stages | strides | coarser heads | channels of the first stage | memory |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| `{name}` | {' | '.join(_facts(row))} |" for name, row in ARCHITECTURES.items()]
    lines += [
        "",
        "*Coarser heads*: decoder stages, besides the finest, that are trained with logits of their own. *Channels*: as"
        " published, on a GPU; on a CPU half as many. *Memory*: numbers kept for the gradients, as a multiple of those of a plain"
        " U-Net of the same convolutions, as measured.",
        "",
    ]
    return "\n".join(lines)


def _facts(row: Architecture) -> tuple[str, ...]:
    stages = f"{row.fewest} or more" if row.most is None else str(row.most) if row.most == row.fewest else f"to {row.most}"
    strides = "2 along every axis" if row.halves else "as planned"
    heads = "none" if row.heads is None else f"all but the coarsest {row.heads}" if row.heads > 1 else "all but the coarsest"
    first = str(WIDTHS[3][0]) if row.first is None else f"{row.first}, fixed at every stage" if row.widths else str(row.first)
    memory = f"{row.activations:g}" if isinstance(row.activations, float) else "grows with blocks and their width"
    return stages, strides, heads, first, memory


AUGMENTATION_HEAD = """# Augmentation

Written by `python docs/generate.py` from `src/voxelry/augmentation/registry.py`. Keys of the `augment` section of a
[recipe](recipes.md): for each kind of random change a probability, and a range where it has one. The defaults are nnU-Net's.
[How to add an augmentation](../how-to/add-an-augmentation.md).

## Keys
"""
AUGMENTATION_SETS = """
## Sets

`light` converges quickly and plateaus early: on the hippocampus (104 cases) pseudo-Dice was highest once each case had been seen
about 50 times, and fell from then on, while with `nnunet` it rose for three times as long ([lab.md](../lab.md)). For a longer run
take `set: nnunet` with averaged weights, as `configs/hippocampus_long.yaml` does, stop early (`patience`), or share the time
among the networks of several folds, which together make fewer errors than any one of them. Values that the other sets change:
"""
AUGMENTATION_KINDS = """
## Kinds

In the order in which they are drawn and applied. *Moves* are joined in one pass over image and classes; *grey values* are
changed channel by channel.
"""


def augmentation_page(augmentations: Augmentations = AUGMENTATIONS) -> str:
    """Every key of the `augment` section, what the named sets change, and every kind of augmentation."""
    settings = with_keys_of(augmentations)
    fields = settings.model_fields
    keys = [f"| `{key}` | {_shown(field.default)} | {field.description} |" for key, field in fields.items()]
    sets = [name for name, values in AUGMENT_SETS.items() if values]
    filled = {name: settings.model_validate({"set": name}) for name in sets}
    changed = [key for key in fields if any(key in AUGMENT_SETS[name] for name in sets)]
    rows = [[_shown(getattr(filled[name], key)) for name in sets] for key in changed]
    kinds = [f"| {_linked(each)} | {_acts_on(each)} | {_paragraph(each)} |" for each in augmentations]
    lines = [AUGMENTATION_HEAD, "| key | default | meaning |", "|---|---|---|", *keys, AUGMENTATION_SETS]
    lines += ["| key | " + " | ".join(f"`{name}`" for name in sets) + " |", "|---" * (len(sets) + 1) + "|"]
    lines += [f"| `{key}` | " + " | ".join(cells) + " |" for key, cells in zip(changed, rows, strict=True)]
    return "\n".join([*lines, AUGMENTATION_KINDS, "| kind | changes | description |", "|---|---|---|", *kinds, ""])


SYNTAXES_HEAD = """# Transfer syntaxes

Written by `python docs/generate.py` from `src/voxelry/formats/dicom/pixels/transfer_syntaxes.py`. DICOM pixels of these codings
are read: grey images of 8, 16, 32 or 64 bits allocated, signed or unsigned, and segmentations. Of several decoders the first that
succeeds counts. [How to add a transfer syntax](../how-to/add-a-transfer-syntax.md).
"""
LOSSLESS_WORDS = {True: "yes", False: "no", None: "as coded"}


def transfer_syntaxes_page() -> str:
    """Every transfer syntax that is read, with its decoders."""
    lines = [SYNTAXES_HEAD, "| transfer syntax | UID | coding | lossless | decoders (packages) |", "|---|---|---|---|---|"]
    for row in TRANSFER_SYNTAXES.values():
        decoders = ", ".join(f"{decoder.library} ({decoder.package})" for decoder in row.decoders) or "read in place"
        if row.is_deflated:
            decoders = "inflated as a whole (pydicom)"
        lines.append(f"| {row.name} | {row.uid} | {row.coding} | {LOSSLESS_WORDS[row.is_lossless]} | {decoders} |")
    return "\n".join([*lines, ""])


def _shown(value: Any) -> str:
    """A value as a recipe writes it."""
    return "none" if value is None else str(list(value)) if isinstance(value, tuple) else str(value)


def _linked(augmentation: Any) -> str:
    """The name of an augmentation, as a link to its module if that is one of ours."""
    path = f"src/{type(augmentation).__module__.replace('.', '/')}.py"
    return f"[`{augmentation.name}`](../../{path})" if (ROOT / path).is_file() else f"`{augmentation.name}`"


def _acts_on(augmentation: Any) -> str:
    """What an augmentation changes."""
    if isinstance(augmentation, SpatialAugmentation):
        return "moves"
    return "grey values" if isinstance(augmentation, IntensityAugmentation | Colour) else "labels"


def _paragraph(augmentation: Any) -> str:
    """The class docstring in one line, without its sections."""
    return " ".join((inspect.getdoc(type(augmentation)) or "").partition("\n\nExample")[0].split()).replace("|", "\\|")


METRICS_HEAD = """# The table of metrics

Written by `python docs/generate.py` from `src/voxelry/metrics/metric_table.py`. [metrics.md](metrics.md) explains formulas,
sources and conventions; [how-to/add-a-metric.md](../how-to/add-a-metric.md) says how to add one. R is the reference, P the
prediction; a missing score is NaN in arrays, None in plain data, and enters no mean.
"""


def metrics_page(families: Mapping[str, Family] = FAMILIES) -> str:
    """Every column of scores by family: unit, which value is better, and the scores of empty masks."""
    lines = [METRICS_HEAD]
    for family in families.values():
        lines += [f"## `{family.name}`", "", f"{family.what[0].upper()}{family.what[1:]}.", ""]
        lines += ["| metric | meaning | unit | better | both empty | only in R | only in P |", "|---|---|---|---|---|---|---|"]
        for metric in family.metrics:
            scores = " | ".join(_empty_scores(metric.empty))
            meaning = metric.meaning.replace("|", "\\|")
            lines.append(f"| `{metric.name}` | {meaning} | {metric.unit or 'none'} | {metric.better} | {scores} |")
        lines.append("")
    return "\n".join(lines)


def _empty_scores(policy: EmptyPolicy) -> list[str]:
    values = (policy.both, policy.only_reference, policy.only_prediction)
    return ["by formula" if value is None else "missing" if value != value else f"{value:g}" for value in values]


FORMATS_HEAD = """# The table of formats

Written by `python docs/generate.py` from `src/voxelry/formats/table.py`; each line is a row of it. How these files are read and
written: [formats.md](formats.md). How to add a row: [a reader](../how-to/add-a-reader.md),
[an export format](../how-to/add-an-export-format.md).
"""


def format_table_page() -> str:
    """What is read and what is written, a line per format."""
    read = [
        f"| `{row.name}` | {row.title} | {_endings(row.all_endings)} | {_of_kind(row)} | {', '.join(row.label_options)} |"
        for row in BUILT_IN
        if row.is_read
    ]
    written = [
        f"| `{row.name}` | {_endings(row.written_endings)} | {', '.join(f'{axes}D' for axes in row.axes)} | {_yes(row.layers)} | "
        f"{_yes(row.sheared)} | {row.instances or 'lost'} | {_yes(row.source == 'required')} | {_options(row)} | "
        f"{row.cannot_hold} |"
        for row in BUILT_IN
        if row.write_labels
    ]
    lines = [
        FORMATS_HEAD,
        "## Read",
        "",
        "| name | format | endings | read as | options of `read_labels` |",
        "|---|---|---|---|---|",
        *read,
    ]
    lines += ["", "## Written", "", "Images are written as NIfTI.", ""]
    titles = ("name", "endings", "axes", "overlaps", "tilted grids", "instance ids", "needs the DICOM scan", "options")
    lines += [f"| {' | '.join(titles)} | does not hold |"]
    return "\n".join([*lines, "|---|---|---|---|---|---|---|---|---|", *written, ""])


def _endings(endings: tuple[str, ...]) -> str:
    return ", ".join(f"`{ending}`" for ending in endings)


def _of_kind(row: Format) -> str:
    return {"image": "image", "labels": "labels", "both": "image, labels"}[row.kind]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _options(row: Format) -> str:
    """Options that a user gives; those that conversion fills in are left out."""
    return ", ".join(f"`{option}`" for option in row.options)


def losses_page() -> str:
    """The table of losses."""
    from voxelry.training.loss import LOSSES

    lines = ["# Losses", "", "Written by `python docs/generate.py` from `LOSSES` in `src/voxelry/training/loss.py`.", ""]
    lines += ["| `loss.name` | loss | keys of its own |", "|---|---|---|"]
    for name, kind in LOSSES.items():
        keys = ", ".join(f"`{key}` ({LossSettings.model_fields[key].default})" for key in kind.settings)
        lines.append(f"| `{name}` | {kind.text} | {keys} |")
    shared = "`weights`, `regions` and `batch_dice` apply to every loss ([recipes](recipes.md))."
    return "\n".join([*lines, "", shared, ""])


RECIPE_TABLES = {
    "## Top level": Config,
    "## `plan`": PlanSettings,
    "## `loss`": LossSettings,
    "## `optimiser`": OptimiserSettings,
}
"""Heading of the page about recipes -> the settings whose keys the table below it lists."""


def recipes_page() -> str:
    """The page about recipes: its tables list the keys of today with their defaults, all else stays as it was written.

    A key without a row gets one, with the words of its class's docstring.
    """
    text = (ROOT / "docs/reference/recipes.md").read_text(encoding="utf-8")
    for heading, kind in RECIPE_TABLES.items():
        pattern = rf"(?<=\n{heading}\n)(.*?\n\|---\|---\|---\|\n(?:\|[^\n]*\n)*)"
        before, table, after = re.split(pattern, text, maxsplit=1, flags=re.DOTALL)
        head = table.partition("|---|---|---|\n")[0]
        written = dict(re.findall(r"^\| `(\w+)` (\|.*)", table, re.MULTILINE))
        rows = [f"| `{key}` {_default_and_meaning(kind, key, written.get(key))}" for key in kind.model_fields]
        text = before + head + "\n".join(["|---|---|---|", *rows, ""]) + after
    return text


def _default_and_meaning(kind: type[BaseModel], key: str, written: str | None) -> str:
    """The second and third cell of a row; words in place of a default (none, planned, below) stay as they were written."""
    field = kind.model_fields[key]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    kept, meaning = written.strip("| ").split(" | ", 1) if written else ("none", _attribute(kind, key))
    is_worded = default is None or isinstance(default, BaseModel)
    return f"| {kept if is_worded else _yaml(default)} | {meaning} |"


def _attribute(kind: type, key: str) -> str:
    """What a class's docstring says of an attribute, in one line."""
    found = re.search(
        rf"^    (?:\w+, )*{key}(?:, \w+)*: (.*?)(?=^    \w|\n\n|\Z)", inspect.getdoc(kind) or "", re.MULTILINE | re.DOTALL
    )
    return " ".join(found[1].split()).replace("``", "`").replace("|", "\\|").rstrip(".") if found else ""


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True)).partition("\n")[0]


VERBS_HEAD = """# Verbs

Written by `python docs/generate.py` from the functions of `voxelry.api` and the commands of `voxelry`. `voxelry COMMAND --help`
and `help(voxelry.FUNCTION)` explain every option. [How to add a verb](../how-to/add-a-verb.md).
"""


def verbs_page() -> str:
    """Every verb: its parameters in Python, its options on the command line."""
    commands = _commands()
    lines = [VERBS_HEAD, "## In Python", "", "| function | what it does |", "|---|---|"]
    for name, module in sorted(_api_names().items()):
        function = getattr(import_module(f"voxelry.api.{module}"), name)
        kinds = [(each.name, each.kind) for each in inspect.signature(function).parameters.values()]
        shown = [f"**{word}" if kind is inspect.Parameter.VAR_KEYWORD else word for word, kind in kinds]
        named = next((place for place, (_, kind) in enumerate(kinds) if kind is inspect.Parameter.KEYWORD_ONLY), None)
        if named is not None:
            shown.insert(named, "*")
        lines.append(f"| `{name}({', '.join(shown)})` | {_first_line(function)} |")
    lines += ["", "## On the command line", "", "| command | what it does |", "|---|---|"]
    for name, command in commands.items():
        shown = [
            each.name.upper() if each.param_type_name == "argument" else each.opts[-1]
            for each in command.params
            if each.name != "help" and not getattr(each, "hidden", False)
        ]
        lines.append(f"| `voxelry {' '.join([name, *shown])}` | {_first_line(command.callback)} |")
    return "\n".join([*lines, ""])


def _commands() -> dict[str, Any]:
    """Every command by its words; a group of commands is followed by those in it."""
    commands: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        commands[name] = command
        commands |= {f"{name} {inner}": each for inner, each in getattr(command, "commands", {}).items()}
    return commands


def _first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0].replace("|", "\\|")


def api_stub() -> str:
    """The stub of `voxelry.api`: the names in `__all__` of its modules."""
    lines = [f"from .{module} import {name} as {name}" for name, module in _api_names().items()]
    return "\n".join(sorted(lines)) + "\n"


def _api_names() -> dict[str, str]:
    """Verb -> its module in `voxelry.api`."""
    modules = (
        "archive_verbs",
        "cohort_verbs",
        "compression_verb",
        "export_verbs",
        "import_verbs",
        "model_verbs",
        "pipeline_verb",
        "patient_verbs",
        "prediction_verbs",
        "report_verb",
        "review_verbs",
        "privacy_verbs",
        "scoring_verbs",
        "serving_verbs",
        "training_verbs",
        "verbs",
    )
    return {name: module for module in modules for name in _exports(PACKAGE / "api" / f"{module}.py")}


def package_stub() -> str:
    """The stub of `voxelry`: every name of `voxelry.api`, and the other lines as they are."""
    others = [line for line in (PACKAGE / "__init__.pyi").read_text(encoding="utf-8").splitlines() if ".api " not in line]
    verbs = [line.rpartition(" ")[2] for line in api_stub().splitlines()]
    names = {line.rpartition(" ")[2] for line in others}
    lines = [f"from .api import {name} as {name}" for name in verbs if name not in names]
    return "\n".join(sorted([*others, *lines])) + "\n"


def _exports(path: Path) -> list[str]:
    """The names in a module's `__all__`."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assigned = (node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    return [str(name) for names in assigned for name in ast.literal_eval(names)]


GENERATED: dict[str, Callable[[], str]] = {
    "src/voxelry/__init__.pyi": package_stub,
    "src/voxelry/api/__init__.pyi": api_stub,
    "docs/reference/losses.md": losses_page,
    "docs/reference/format-table.md": format_table_page,
    "docs/reference/augmentation.md": augmentation_page,
    "docs/reference/metric-table.md": metrics_page,
    "docs/reference/modules.md": modules_page,
    "docs/reference/networks.md": networks_page,
    "docs/reference/recipes.md": recipes_page,
    "docs/reference/transfer-syntaxes.md": transfer_syntaxes_page,
    "docs/reference/verbs.md": verbs_page,
}
"""File, below the repository's root -> the function that gives its text."""


def main() -> None:
    """Write every page."""
    for name, make in GENERATED.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
