import logging

import pytest
import yaml

from voxelry.errors import ConfigError
from voxelry.recipes import renamed_keys
from voxelry.recipes.recipe import Config, load_config, parse_config
from voxelry.recipes.renamed_keys import RENAMED_KEYS, RENAMED_VALUES, current_tree


@pytest.fixture
def recipe(tmp_path):
    def write(**keys):
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({"manifest": "m.yaml", "steps": 10, **keys}))
        return file

    return write


def test_a_former_key_loads_with_one_warning(recipe, caplog):
    file = recipe(foreground=0.7)
    assert load_config(file).oversample_foreground == 0.7
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: the key 'foreground' is now called 'oversample_foreground'"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_former_key_on_the_command_line(recipe, caplog):
    assert load_config(recipe(foreground=0.7), ("foreground=0.2",)).oversample_foreground == 0.2
    assert "--set foreground=0.2: the key 'foreground' is now called 'oversample_foreground'" in caplog.text
    assert len(caplog.records) == 2
    assert load_config(recipe(foreground=0.7), ("oversample_foreground=0.3",)).oversample_foreground == 0.3


def test_a_key_by_both_names_is_refused(recipe):
    with pytest.raises(ConfigError, match=r"'foreground' and 'oversample_foreground' are one key. Leave 'foreground' out"):
        load_config(recipe(foreground=0.7, oversample_foreground=0.7))


def test_keys_and_values_within_groups(monkeypatch, caplog):
    monkeypatch.setattr(renamed_keys, "RENAMED_KEYS", {"a.old": "a.new", "a.new.deep": "a.new.deeper"})
    monkeypatch.setattr(renamed_keys, "RENAMED_VALUES", {"a.kind": {"recipe": "nnunet"}})
    tree = {"old": 1, "a": {"old": {"deep": 2}, "kind": "recipe"}, "b": {"kind": "recipe", "old": [1]}}
    assert current_tree(tree, "x.yaml") == {
        "old": 1,
        "a": {"new": {"deeper": 2}, "kind": "nnunet"},
        "b": {"kind": "recipe", "old": [1]},
    }
    assert tree["a"]["kind"] == "recipe"
    assert "x.yaml: 'a.kind: recipe' is now written 'a.kind: nnunet'" in caplog.text


def test_todays_names_load_in_silence(recipe, caplog):
    config = load_config(recipe(oversample_foreground=0.7))
    assert parse_config(config.model_dump(mode="json"), "recipe.yaml") == config
    assert not caplog.records


@pytest.mark.parametrize("key", [*RENAMED_KEYS.values(), *RENAMED_VALUES])
def test_what_former_names_lead_to_is_there(key):
    owner = Config
    *groups, leaf = key.split(".")
    for group in groups:
        owner = owner.model_fields[group].annotation
    assert leaf in owner.model_fields


@pytest.mark.parametrize("key", RENAMED_KEYS)
def test_a_former_name_is_not_a_name_of_today(key):
    owner = Config
    *groups, leaf = key.split(".")
    for group in groups:
        owner = owner.model_fields[group].annotation
    assert leaf not in owner.model_fields
    assert groups == RENAMED_KEYS[key].split(".")[:-1]
