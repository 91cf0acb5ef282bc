"""A plan as a YAML file that a person may read and edit."""

from __future__ import annotations

import os
from typing import Any

import yaml

from voxelry.base.files import read_yaml, write_text
from voxelry.base.schema import parse
from voxelry.core.plan import Plan

_HEAD = """\
# A plan by voxelry plan. Every number may be changed: voxelry train RECIPE --plan FILE takes it as it then is. The edges of
# patch_size are multiples of the products of network.strides; features, strides and kernels have a row for each stage, finest
# first. The reasons are the planner's: strike out those of what you change.
"""


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a plan as YAML, atomically, with its reasons first.

    Args:
        plan: any plan.
        path: the file.

    Example:
        >>> from voxelry.core import NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> save_plan(plan, "plan.yaml")
    """
    write_text(path, _HEAD + plan_text(plan))


def plan_text(plan: Plan) -> str:
    """A plan as YAML, reasons first.

    Example:
        >>> from voxelry.core import NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> "patch_size: [32, 32]" in plan_text(plan)
        True
    """
    return yaml_text(plan_tree(plan))


def plan_tree(plan: Plan) -> dict[str, Any]:
    """A plan as plain data, reasons first; `Plan` reads it back."""
    content = plan.model_dump(mode="json", exclude_none=True)
    return {"reasons": content.pop("reasons"), **content}


def yaml_text(tree: dict[str, Any]) -> str:
    """Plain data as YAML, a row of numbers in one line."""
    return yaml.dump(tree, Dumper=_Rows, sort_keys=False, allow_unicode=True, width=110)


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan that a person may have edited.

    Args:
        path: a YAML file as `save_plan` writes it.

    Raises:
        MissingFileError: no such file.
        ConfigError: not YAML, an unknown key (naming the nearest), or numbers that do not fit each other.

    Example:
        >>> from voxelry.core import NetworkPlan, Normalisation, Plan
        >>> network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
        >>> norm = Normalisation(scheme="image")
        >>> plan = Plan(dimensions=2, channels=("X",), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network)
        >>> from voxelry.planning import save_plan
        >>> save_plan(plan, "plan.yaml")
        >>> load_plan("plan.yaml") == plan
        True
    """
    return parse(Plan, read_yaml(path), str(path))


class _Rows(yaml.SafeDumper):
    """YAML whose lists of numbers stand in one line."""


def _rows(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    flat = not any(isinstance(value, list | dict) or " " in str(value) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flat)


_Rows.add_representer(list, _rows)
