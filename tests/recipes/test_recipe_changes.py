from hypothesis import given
from hypothesis import strategies as st

from voxelry.recipes.recipe import Config
from voxelry.recipes.recipe_changes import differences

values = st.none() | st.integers(0, 3) | st.text("ab", max_size=2)
groups = st.dictionaries(st.text("uv", min_size=1), values, max_size=2)
trees = st.dictionaries(st.text("xyz", min_size=1, max_size=2), values | groups, max_size=4)


@given(trees, trees)
def test_equal_trees_alone_have_no_differences(one, other):
    assert differences(one, one) == []
    assert len(differences(one, other)) == len(differences(other, one))


def test_each_key_with_both_values():
    before = Config(manifest="a", steps=3, optimiser={"learning_rate": 0.01})
    now = Config(manifest="a", epochs=2, optimiser={"learning_rate": 0.1}, flips=(1,), plan={"options": {"a": 1}})
    got = differences(before.model_dump(mode="json"), now.model_dump(mode="json"))
    assert sorted(got) == [
        "epochs: not set, now 2",
        "flips: not set, now [1]",
        "optimiser.learning_rate: 0.01, now 0.1",
        "plan.options.a: not set, now 1",
        "steps: 3, now not set",
    ]
    ignored = differences(before.model_dump(), now.model_dump(), ("plan", "flips", "optimiser"))
    assert sorted(ignored) == ["epochs: not set, now 2", "steps: 3, now not set"]
