import pytest

from voxelry.base.schema import parse
from voxelry.core.architectures import ARCHITECTURES, architecture, check_stages, checked_name, is_import_path, preset
from voxelry.core.plan import NetworkPlan
from voxelry.errors import ConfigError
from voxelry.recipes.settings import PlanSettings


@pytest.mark.parametrize(("name", "nearest"), [("resnet", "segresnet"), ("dynunett", "dynunet"), ("mednxt", "mednext")])
def test_an_unknown_network_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"no network '{name}'. Did you mean '{nearest}'"):
        checked_name(name)
    with pytest.raises(ConfigError, match=f"Did you mean '{nearest}'"):
        parse(PlanSettings, {"network": name}, "recipe.yaml")
    tree = {"name": name, "features": [4, 8, 8], "strides": [[1], [2], [2]], "kernels": [[3], [3], [3]]}
    with pytest.raises(ConfigError, match=f"Did you mean '{nearest}'"):
        parse(NetworkPlan, tree, "plan.yaml")


@pytest.mark.parametrize("name", ["nets:Net", "my.nets:Net", "my_nets.v2:make_net"])
def test_an_import_path_is_taken_as_it_is(name):
    assert is_import_path(checked_name(name))
    assert architecture(name).most is None


@pytest.mark.parametrize("name", ["nets:", ":Net", "my nets:Net", "nets:Net()", "nets:a.b", "os; x:Net", "../nets:Net"])
def test_what_is_no_import_path_is_refused(name):
    with pytest.raises(ValueError, match=r"write package\.module:Class"):
        checked_name(name)


def test_presets_are_those_of_their_authors():
    assert [preset("resenc", size).gpu.memory for size in ("M", "L", "XL")] == [8e9, 24e9, 40e9]
    assert preset("resenc", "L").blocks == (1, 3, 4, 6)
    assert preset("mednext", "L").blocks == (3, 4, 8, 8, 8)
    with pytest.raises(ValueError, match=r"'unet' has no presets \(resenc, mednext have\)"):
        preset("unet", "M")
    with pytest.raises(ConfigError, match=r"no preset 'XXL'. Known: M, L, XL"):
        parse(PlanSettings, {"network": "resenc", "preset": "XXL"}, "recipe.yaml")
    with pytest.raises(ConfigError, match=r"preset 'L' needs a network; give 'network' too: resenc or mednext"):
        parse(PlanSettings, {"preset": "L"}, "recipe.yaml")


def test_blocks_of_a_deeper_network_repeat_the_last():
    assert architecture("resenc").stage_blocks(7) == (1, 3, 4, 6, 6, 6, 6)
    assert architecture("resenc").stage_blocks(2) == (1, 3)
    assert architecture("dynunet").stage_blocks(4) == ()


def _strides(stages, stride=(2, 2, 2)):
    return ((1, 1, 1), *(stride,) * (stages - 1))


@pytest.mark.parametrize(
    ("name", "features", "strides", "blocks", "message"),
    [
        ("dynunet", (4, 8), _strides(2), (), "at least 3 stages, not 2"),
        ("swinunetr", (12,) * 7, _strides(7), (), "at most 6 stages, not 7"),
        ("mednext", (4, 8, 16, 32, 64), (*_strides(5, (2, 2, 1))[:-1], (2, 2, 2)), (), "halves every axis"),
        ("mednext", (4, 8, 16, 32, 32), _strides(5), (), r"has channels \(4, 8, 16, 32, 64\)"),
        ("swinunetr", (12, 24, 48, 96, 192, 384), _strides(6), (), r"has channels \(12, 12, 24, 48, 96, 192\)"),
        ("dynunet", (4, 8, 8), _strides(3), (1, 2, 2), "no residual blocks"),
        ("resenc", (4, 8, 8), _strides(3), (1, 2), "blocks are of 2 stages, features of 3"),
    ],
)  # fmt: skip
def test_stages_that_do_not_fit_are_refused(name, features, strides, blocks, message):
    with pytest.raises(ValueError, match=message):
        check_stages(name, features, strides, blocks)


def test_the_axis_across_slices_need_not_be_halved():
    check_stages("mednext", (4, 8, 16, 32, 64), _strides(5, (1, 2, 2)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_widths_a_table_gives_are_those_it_takes(name):
    needs = ARCHITECTURES[name]
    stages = max(needs.fewest, 3)
    features = (4, 8, 16) if needs.widths is None else needs.widths(12, stages)
    check_stages(name, features, _strides(stages))
