import logging
import math

import pytest
import yaml

from voxelry.augmentation.augment_settings import AugmentSettings
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
        f"{file}: former names, which still load: 'foreground' is now 'oversample_foreground'"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_former_key_on_the_command_line(recipe, caplog):
    assert load_config(recipe(foreground=0.7), ("foreground=0.2",)).oversample_foreground == 0.2
    assert "--set foreground=0.2: former names, which still load: 'foreground' is now 'oversample_foreground'" in caplog.text
    assert len(caplog.records) == 2
    assert load_config(recipe(foreground=0.7), ("oversample_foreground=0.3",)).oversample_foreground == 0.3


def test_a_key_by_both_names_is_refused(recipe):
    with pytest.raises(ConfigError, match=r"'foreground' is a former name of 'oversample_foreground'. Leave 'foreground' out"):
        load_config(recipe(foreground=0.7, oversample_foreground=0.7))


def test_keys_and_values_within_groups(monkeypatch, caplog):
    monkeypatch.setattr(renamed_keys, "RENAMED_KEYS", {"a.old": ("a.new",), "a.new.deep": ("a.new.deeper",)})
    monkeypatch.setattr(renamed_keys, "RENAMED_VALUES", {"a.kind": {"recipe": "nnunet"}})
    tree = {"old": 1, "a": {"old": {"deep": 2}, "kind": "recipe"}, "b": {"kind": "recipe", "old": [1]}}
    assert current_tree(tree, "x.yaml") == {
        "old": 1,
        "a": {"new": {"deeper": 2}, "kind": "nnunet"},
        "b": {"kind": "recipe", "old": [1]},
    }
    assert tree["a"]["kind"] == "recipe"
    assert "'a.kind: recipe' is now 'a.kind: nnunet'" in caplog.text


def test_todays_names_load_in_silence(recipe, caplog):
    config = load_config(recipe(oversample_foreground=0.7))
    current_tree({"optimiser": {"learning_rate": math.nan}}, "recipe.yaml")
    assert parse_config(config.model_dump(mode="json"), "recipe.yaml") == config
    assert not caplog.records


AUGMENT = """
set: recipe
noise: 0.3
blur: 0.1
factor: [0.8, 1.1]
per_channel: 0.25
gamma_range: [0.9, 1.2]
flip: 1
elastic: 0.2
rotation_p: 0.4
"""


def test_the_words_of_an_older_augment_section(recipe, caplog):
    config = load_config(recipe(augment=yaml.safe_load(AUGMENT)))
    assert config.augment == AugmentSettings(
        set="nnunet",
        noise_p=0.3,
        blur_p=0.1,
        brightness_factor=(0.8, 1.1),
        contrast_factor=(0.8, 1.1),
        blur_per_channel=0.25,
        low_resolution_per_channel=0.25,
        gamma_range=(0.9, 1.2),
        flip_p=1,
        elastic_p=0.2,
        rotation_p=0.4,
    )
    for words in (
        "'augment.noise' is now 'augment.noise_p'",
        "'augment.factor' is now 'augment.brightness_factor' and 'augment.contrast_factor'",
        "'augment.set: recipe' is now 'augment.set: nnunet'",
    ):
        assert caplog.text.count(words) == 1
    assert len(caplog.records) == 1


def test_a_former_key_of_two_on_the_command_line(recipe):
    config = load_config(recipe(), ("augment.factor=[0.9, 1.1]", "augment.set=recipe", "augment={noise: 0.4}"))
    assert config.augment.noise_p == 0.4
    config = load_config(recipe(augment={"set": "recipe", "noise": 0.3}), ("augment.flip=0.25",))
    assert (config.augment.set, config.augment.noise_p, config.augment.flip_p) == ("nnunet", 0.3, 0.25)
    config = load_config(recipe(augment={"noise": 0.1}), ("augment.factor=[0.9, 1.1]", "augment.set=recipe"))
    assert (config.augment.set, config.augment.noise_p) == ("nnunet", 0.1)
    assert config.augment.brightness_factor == config.augment.contrast_factor == (0.9, 1.1)


def owner_of(key):
    """The class that has, or had, a key."""
    owner = Config
    for group in key.split(".")[:-1]:
        owner = owner.model_fields[group].annotation
    return owner


@pytest.mark.parametrize("key", [*sum(RENAMED_KEYS.values(), ()), *RENAMED_VALUES])
def test_what_former_names_lead_to_is_there(key):
    assert key.split(".")[-1] in owner_of(key).model_fields


@pytest.mark.parametrize("key", RENAMED_KEYS)
def test_a_former_name_is_no_name_today(key):
    assert key.split(".")[-1] not in owner_of(key).model_fields
    assert {name.rpartition(".")[0] for name in RENAMED_KEYS[key]} == {key.rpartition(".")[0]}
