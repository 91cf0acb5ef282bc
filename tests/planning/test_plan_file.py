import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from helpers.plans import tiny_fingerprint, tiny_plan
from voxelry.errors import ConfigError, MissingFileError
from voxelry.planning.plan_file import load_plan, plan_tree, save_plan, yaml_text
from voxelry.planning.planner import make_plan
from voxelry.recipes.settings import PlanSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plans")


@effort(max_examples=20)
@given(
    median=st.tuples(*[st.integers(8, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 6)] * 3),
    settings=st.sampled_from([{}, {"memory": "8GB"}, {"configuration": "2d"}, {"network": "mednext", "preset": "L"}]),
)
def test_a_plan_comes_back_as_it_was(folder, median, spacing, settings):
    seen = tiny_fingerprint(shapes=(median,) * 3, spacing=spacing, spacing_range=(spacing,) * 2)
    plan = make_plan(seen, PlanSettings(**settings))
    save_plan(plan, folder / "plan.yaml")
    assert load_plan(folder / "plan.yaml") == plan


def test_an_edited_plan_is_taken_as_edited(tmp_path):
    save_plan(tiny_plan(reasons=("A patch has 8 x 8 x 8 voxels.",)), tmp_path / "plan.yaml")
    text = (tmp_path / "plan.yaml").read_text()
    assert text.startswith("# A plan by voxelry plan.")
    assert "- A patch has 8 x 8 x 8 voxels.\n" in text
    assert "patch_size: [8, 8, 8]" in text
    (tmp_path / "plan.yaml").write_text(text.replace("[8, 8, 8]", "[16, 8, 24]").replace("batch_size: 2", "batch_size: 5"))
    plan = load_plan(tmp_path / "plan.yaml")
    assert (plan.patch_size, plan.batch_size) == ((16, 8, 24), 5)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("patch_size: [8, 8, 8]", "patch_size: [8, 9, 8]", r"plan.yaml: patch_size \(8, 9, 8\) is not divisible"),
        ("batch_size: 2", "batchsize: 2", "unknown key 'batchsize'. Did you mean 'batch_size'"),
        ("batch_size: 2", "batch_size: 0", "'batch_size' is 0"),
        ("name: dynunet", "name: dynet", "no network 'dynet'"),
        ("dimensions: 3", "dimensions: 2", "dimensions is 2"),
        ("batch_size: 2", "batch_size: [", "YAML"),
    ],
)
def test_a_plan_that_does_not_fit_is_one_error_that_names_the_file(tmp_path, before, after, message):
    text = yaml_text(plan_tree(tiny_plan()))
    assert before in text
    (tmp_path / "plan.yaml").write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=message) as caught:
        load_plan(tmp_path / "plan.yaml")
    assert "plan.yaml" in str(caught.value)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(MissingFileError, match=r"plan.yaml: no such file"):
        load_plan(tmp_path / "plan.yaml")
