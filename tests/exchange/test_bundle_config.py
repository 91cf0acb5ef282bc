"""Expressions of bundles are read or refused, never run."""

from pathlib import Path

import pytest

from voxelry.errors import ModelError
from voxelry.exchange.bundle_config import BundleConfig

FILE = Path("inference.json")

HARMLESS = [
    "$import glob",
    "$list(sorted(glob.glob(@dir + '/*.nii.gz')))",
    "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "$[{'image': i} for i in @list]",
    "$@net.to(@dir)",
    "$@loader(@net)",
    "$setattr(torch.backends.cudnn, 'benchmark', True)",
    "$monai.utils.set_determinism(seed=123)",
    "$numpy.float32",
]
CODE = [
    "$import os",
    "$os.path.join(@dir, 'a')",
    "$import subprocess",
    "$from os import system",
    "$os.system('ls')",
    "$os.environ",
    "$open('a').read()",
    "$@net.__class__",
    "$getattr(@net, 'a')",
    "$exec('1')",
    "$(lambda: __import__('os'))()",
    "$setattr(os, 'path', 1)",
    "$torch.load('a.pt')",
    "$[f for f in [os.remove]][0]('a')",
    "$import os; os.getcwd()",
    "$x := 1",
    "$" + "(" * 300 + ")" * 300,
    "$" + "1+" * 20_000 + "1",
    "$for x in []: pass",
    "$lambda x: x",
]


def config(**tree):
    return BundleConfig({"dir": "a", "list": [1], "net": {}, "loader": {}, **tree}, FILE)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_cannot_do_harm_may_stand(text):
    config(x=text).check()


@pytest.mark.parametrize("text", CODE)
def test_code_is_refused(text):
    with pytest.raises(ModelError, match="x#0 is code, which is not run"):
        config(x=[text]).check()


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.run", "scripts.net.Net", "torch.load", "torch.hub.load", "builtins.eval"]
)
def test_a_component_of_another_package_is_refused(target):
    with pytest.raises(ModelError, match="x#_target_ names"):
        config(x={"_target_": target}).check()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("@dir", "a"),
        ("@list#0", 1),
        ("@net", {}),
        ("$@dir + '/models/' + @name", "a/models/b"),
        ("$[1, 2.5] if @flag else [3]", [1, 2.5]),
        ("$-1", -1),
        ("$not @flag", False),
        ("$numpy.float32", "float32"),
        ("plain", "plain"),
    ],
)
def test_constants_and_references_are_read(text, value):
    assert config(x=text, name="b", flag=True).value("x") == value


@pytest.mark.parametrize("text", ["$len(@list)", "$@list[0]", "$2 ** 99999999", "$'a' * 10", "$unknown"])
def test_more_than_that_is_no_constant(text):
    with pytest.raises(ModelError, match="x is code"):
        config(x=text).value("x")


def test_references_that_lead_nowhere_or_back_are_refused():
    with pytest.raises(ModelError, match="refers to 'nothing', which is not there"):
        config(x="@nothing").value("x")
    with pytest.raises(ModelError, match="refers to itself"):
        config(x="@y", y="@x").value("x")
