import shutil
from dataclasses import replace

import pytest
import torch

from helpers.plans import tiny_model, tiny_network, tiny_plan
from voxelry.errors import ModelError
from voxelry.networks.weights import save_model
from voxelry.zoo.model_check import check_model


def test_a_whole_model_and_ensemble(tiny, both):
    checked = check_model(tiny)
    assert (checked.format, checked.networks, checked.labels) == ("1.0", 1, ("left kidney", "right kidney", "spine"))
    assert check_model(both).numbers == 2 * checked.numbers > 0


def test_both_stages_of_a_cascade_compute(tmp_path):
    first = tiny_model(tiny_plan(configuration="3d_lowres"))
    save_model(replace(tiny_model(tiny_plan(configuration="3d_cascade")), previous=first), tmp_path / "m")
    assert check_model(tmp_path / "m").networks == 2


def test_a_folder_from_before_records_states_no_format(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "m")
    (tmp_path / "m" / "model.json").unlink()
    assert check_model(tmp_path / "m").format == ""


def test_damage_is_named(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "m")
    file = tmp_path / "m" / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights.safetensors: was changed or damaged"):
        check_model(tmp_path / "m")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_noticed(tmp_path, value):
    model = tiny_model(tiny_plan(2))
    name = next(name for name, weight in model.weights.items() if weight.ndim > 1)
    save_model(replace(model, weights=model.weights | {name: torch.full_like(model.weights[name], value)}), tmp_path / "m")
    with pytest.raises(ModelError, match="not finite"):
        check_model(tmp_path / "m")


def test_weights_of_another_plan_are_noticed(tmp_path):
    model = tiny_model(tiny_plan(2))
    save_model(replace(model, plan=tiny_plan(2, network=tiny_network(2, (4, 8, 12)))), tmp_path / "m")
    with pytest.raises(ModelError, match="do not fit the plan"):
        check_model(tmp_path / "m")


def test_code_of_others_is_not_run_unless_it_is_named(tmp_path):
    """The import path leads nowhere, so running it would be an error."""
    model = tiny_model(tiny_plan(2))
    plan = tiny_plan(2, network=tiny_network(2, name="nowhere_at_all:Network"))
    save_model(replace(model, plan=plan), tmp_path / "m")
    assert check_model(tmp_path / "m").not_run == ("nowhere_at_all:Network",)
    with pytest.raises(Exception, match="cannot be imported"):
        check_model(tmp_path / "m", "nowhere_at_all:Network")


def test_a_patch_that_no_memory_holds(tmp_path):
    save_model(replace(tiny_model(tiny_plan(3)), plan=tiny_plan(3, patch_size=(64000,) * 3)), tmp_path / "m")
    with pytest.raises(ModelError, match=r"a patch of \(64000, 64000, 64000\) voxels cannot be computed"):
        check_model(tmp_path / "m")


def test_weights_of_another_kind_are_noticed(tmp_path):
    model = tiny_model(tiny_plan(2))
    save_model(replace(model, weights={name: weight.to(torch.int64) for name, weight in model.weights.items()}), tmp_path / "m")
    with pytest.raises(ModelError, match=r"of torch\.int64, not"):
        check_model(tmp_path / "m")
