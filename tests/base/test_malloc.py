import os

import pytest

from voxelry.base import malloc
from voxelry.base.malloc import installed_memory

MIB = 1 << 20


def groups(folder, rows, limits):
    """A made-up tree of control groups; returns the file that names those of the process."""
    for name, value in limits.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(value)
    membership = folder / "membership"
    membership.write_text(rows)
    return membership


@pytest.mark.parametrize(
    ("rows", "limits", "expected"),
    [
        ("0::/\n", {}, []),
        ("0::/\n", {"memory.max": "max\n"}, []),
        ("0::/\n", {"memory.max": "1048576\n"}, [MIB]),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "2097152\n", "memory.max": "3145728\n"}, [2 * MIB, 3 * MIB]),
        ("0::/../../x\n", {}, []),
        ("9:cpu,cpuacct:/d\n4:memory:/d/e\n", {"memory/d/e/memory.limit_in_bytes": "1048576"}, [MIB]),
        ("4:memory:/gone\n", {"memory/memory.limit_in_bytes": "1048576"}, [MIB]),
        ("4:cpuset:/d\n", {"cpuset/d/memory.limit_in_bytes": "1048576"}, []),
        ("nonsense\n\n0::\n", {"memory.max": "0\n"}, []),
    ],
)
def test_the_limits_of_control_groups(tmp_path, monkeypatch, rows, limits, expected):
    monkeypatch.setattr(malloc, "_CONTROL_GROUPS", tmp_path)
    assert malloc._group_limits(groups(tmp_path, rows, limits)) == expected


def test_no_control_groups_no_limits(tmp_path):
    assert malloc._group_limits(tmp_path / "nothing") == []


def test_memory_is_that_of_the_machine_or_of_its_tightest_limit(monkeypatch):
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limits, expected in (([], whole), ([MIB, 2 * MIB], MIB), ([2 * whole], whole)):
        monkeypatch.setattr(malloc, "_group_limits", lambda _, limits=limits: limits)
        assert installed_memory() == expected
