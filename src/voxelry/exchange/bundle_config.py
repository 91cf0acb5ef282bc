"""Reads a bundle's configuration as plain data: references are followed, constant expressions read, and no code is run.

MONAI runs every text that begins with ``$`` as Python. Here such a text is parsed and never run. One that only builds a value of
constants and references (``$@bundle_root + '/models/model.pt'``) has that value. Others may stand where the import does not look
(paths of data, devices, ``$@evaluator.run()``) if every name and call in them is on a short list of what cannot do harm; any
other expression, and any ``_target_`` outside MONAI, PyTorch and Ignite, refuses the bundle wherever it stands.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from voxelry.base.files import read_json, read_yaml
from voxelry.errors import ModelError

MODULES = frozenset(
    {"glob", "json", "math", "re", "pathlib", "numpy", "np", "torch", "monai", "ignite", "itertools", "functools"}
)
"""Modules that an expression may import: the import itself does nothing, and calls are checked one by one."""

CALLS = frozenset({
    "list", "sorted", "tuple", "dict", "len", "range", "int", "float", "str", "bool", "zip", "enumerate", "min", "max",
    "glob.glob",
    "torch.device", "torch.cuda.is_available", "torch.cuda.device_count",
    "monai.utils.set_determinism", "monai.data.load_decathlon_datalist", "monai.data.partition_dataset",
})  # fmt: skip
"""What an expression that is never run may call."""

METHODS = frozenset({"to", "run", "eval", "get", "parameters", "state_dict", "format", "split", "replace", "get_rank"})
"""Methods that such an expression may call on what a reference stands for."""

TYPES = re.compile(r"(torch|numpy|np)\.(bool|u?int|float|bfloat)\d*")
SETTINGS = re.compile(r"torch(\.backends(\.cudnn)?)?")
TARGETS = re.compile(r"(monai|torch|ignite)\.[\w.]+|\w+")
UNSAFE_TARGETS = re.compile(r"torch\.(load|hub|package|utils\.cpp_extension|ops)\b.*")
REFERENCE = re.compile(r"@(?:\w|:|#|::)+")
LONGEST = 10_000
"""Characters of an expression, and of what it gives."""

DEEPEST = 32
"""References that lead from one to another."""

MOST_VALUES = 20_000
"""Values of a section with its references followed. A few lines that refer to one another twice each make billions."""

_REMEDY = "If you trust its author, --trust lets MONAI run it."


class BundleConfig:
    """A bundle's configuration.

    Args:
        tree: plain data.
        file: where it comes from, for messages.
        evaluate: runs an expression by MONAI, where the bundle is trusted; None where nothing is run.
    """

    def __init__(self, tree: Mapping[str, Any], file: Path, evaluate: Callable[[str], Any] | None = None) -> None:
        self.tree, self.file, self._evaluate = tree, file, evaluate
        self._values = 0

    def check(self) -> None:
        """Refuse a configuration that asks for code.

        Raises:
            ModelError: naming the place and the text.
        """
        for place, value in _texts(self.tree):
            if place.endswith("_target_") and (not TARGETS.fullmatch(value) or UNSAFE_TARGETS.fullmatch(value)):
                raise ModelError(f"{self.file}: {place} names '{_shown(value)}', code that is not run", remedy=_REMEDY)
            if "%" in value[:1] or (value.startswith("$") and not _is_harmless(value[1:])):
                raise ModelError(f"{self.file}: {place} is code, which is not run: {_shown(value)}", remedy=_REMEDY)

    def value(self, name: str) -> Any:
        """The section of this name as plain data, references followed; None where there is none.

        Raises:
            ModelError: a part of it is code, or a reference leads nowhere.
        """
        return self.plain(self.tree[name], name) if name in self.tree else None

    def raw(self, name: str) -> Any:
        """The section of this name as it is written."""
        return self.tree.get(name)

    def plain(self, value: Any, place: str) -> Any:
        """A part of the configuration as plain data; see `value`."""
        self._values = 0
        return self._plain(value, place, 0)

    def _plain(self, value: Any, place: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise ModelError(f"{self.file}: {place} refers to itself")
        self._values += 1
        if self._values > MOST_VALUES:
            raise ModelError(f"{self.file}: {place} has more than {MOST_VALUES} values with what it refers to")
        if isinstance(value, Mapping):
            return {key: self._plain(each, f"{place}#{key}", depth) for key, each in value.items()}
        if isinstance(value, list):
            return [self._plain(each, f"{place}#{number}", depth) for number, each in enumerate(value)]
        if not isinstance(value, str):
            return value
        if REFERENCE.fullmatch(value):
            return self._plain(self._referred(value[1:], place), value[1:], depth + 1)
        if not value.startswith("$"):
            return value
        try:
            return _constant(value[1:], lambda name: self._plain(self._referred(name, place), name, depth + 1))
        except _NoConstantError:
            if self._evaluate is not None:
                return self._evaluate(place)
            raise ModelError(f"{self.file}: {place} is code, which is not run: {_shown(value)}", remedy=_REMEDY) from None

    def _referred(self, name: str, place: str) -> Any:
        node: Any = self.tree
        for key in re.split(r"#|::", name):
            if isinstance(node, Mapping) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            else:
                raise ModelError(f"{self.file}: {place} refers to '{name}', which is not there")
        return node


def read_config(bundle: Path, stem: str) -> BundleConfig | None:
    """A file of the bundle's folder ``configs``, JSON or YAML; None where there is none.

    Raises:
        ReadError: it is damaged.
    """
    for ending, read in ((".json", read_json), (".yaml", read_yaml), (".yml", read_yaml)):
        file = bundle / "configs" / f"{stem}{ending}"
        if file.is_file():
            return BundleConfig(read(file), file)
    return None


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a tree, with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(each, f"{place}#{key}" if place else str(key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(each, f"{place}#{number}")


def _shown(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


class _NoConstantError(Exception):
    """An expression does more than build a value."""


def _parsed(text: str) -> tuple[ast.Module, dict[str, str]]:
    """An expression, with names in place of references, and what each of these stands for."""
    if len(text) > LONGEST:
        raise SyntaxError("too long")
    names: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        key = f"ref{len(names)}_"
        names[key] = match.group()[1:]
        return key

    return ast.parse(REFERENCE.sub(name, text).strip()), names


def _is_harmless(text: str) -> bool:
    """Whether everything that an expression names and calls is on the lists."""
    try:
        tree, names = _parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if len(tree.body) != 1:
        return False
    statement = tree.body[0]
    if isinstance(statement, ast.Import):
        return all(alias.name.partition(".")[0] in MODULES for alias in statement.names)
    if not isinstance(statement, ast.Expr):
        return False
    bound = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
    return all(_may_stand(node, names.keys() | bound) for node in ast.walk(statement))


_DATA = (
    ast.Expr, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop, ast.BoolOp,
    ast.boolop, ast.Compare, ast.cmpop, ast.IfExp, ast.Subscript, ast.Slice, ast.ListComp, ast.GeneratorExp, ast.comprehension,
    ast.Starred, ast.keyword, ast.expr_context, ast.JoinedStr, ast.FormattedValue,
)  # fmt: skip
"""Nodes of an expression that build values."""


def _may_stand(node: ast.AST, names: set[str]) -> bool:
    if isinstance(node, ast.Call):
        return _may_be_called(node, names)
    if isinstance(node, ast.Name):
        return node.id in names | MODULES or node.id in CALLS or node.id == "setattr"
    if isinstance(node, ast.Attribute):
        return not node.attr.startswith("_") and _is_known(ast.unparse(node))
    return isinstance(node, _DATA)


def _is_known(name: str) -> bool:
    """Whether a module's member is one that may be called, leads to one, or is a type of numbers."""
    if name.partition(".")[0] not in MODULES:
        return True
    return any(f"{call}.".startswith(f"{name}.") for call in CALLS) or bool(TYPES.fullmatch(name) or SETTINGS.fullmatch(name))


def _may_be_called(call: ast.Call, names: set[str]) -> bool:
    function = ast.unparse(call.func)
    if function == "setattr":
        return len(call.args) == 3 and ast.unparse(call.args[0]) == "torch.backends.cudnn"
    if function in CALLS or (isinstance(call.func, ast.Name) and function in names):
        return True
    root = call.func
    while isinstance(root, ast.Attribute | ast.Call | ast.Subscript):
        root = root.func if isinstance(root, ast.Call) else root.value
    is_own = isinstance(root, ast.Constant) or (isinstance(root, ast.Name) and root.id in names)
    return isinstance(call.func, ast.Attribute) and call.func.attr in METHODS and is_own


def _constant(text: str, referred: Callable[[str], Any]) -> Any:
    """The value of an expression of constants and references.

    Raises:
        _NoConstantError: it is more than that.
    """
    try:
        tree, names = _parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _NoConstantError from None
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        raise _NoConstantError
    return _read(tree.body[0].value, lambda key: referred(names[key]) if key in names else _unknown())


def _is_long(*values: Any) -> bool:
    return sum(len(value) for value in values if isinstance(value, str | list)) > LONGEST


def _unknown() -> Any:
    raise _NoConstantError


def _read(node: ast.expr, named: Callable[[str], Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return named(node.id)
    if isinstance(node, ast.List | ast.Tuple):
        return [_read(each, named) for each in node.elts]
    if isinstance(node, ast.IfExp):
        return _read(node.body if _read(node.test, named) else node.orelse, named)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        value = _read(node.operand, named)
        return not value if isinstance(node.op, ast.Not) else -value if isinstance(value, int | float) else _unknown()
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _read(node.left, named), _read(node.right, named)
        if type(left) is type(right) and isinstance(left, str | list | int | float) and not _is_long(left, right):
            return left + right
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("torch", "numpy", "np"):
        return node.attr  # a type, as numpy.float32
    raise _NoConstantError
