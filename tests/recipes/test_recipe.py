from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.augmentation.augment_settings import AugmentSettings
from voxelry.errors import ConfigError, MissingFileError
from voxelry.recipes.recipe import Config, changed, load_config, parse_duration

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "recipes" / "tiny.yaml"
    file.parent.mkdir()
    file.write_text("manifest: ../cards/tiny.yaml\nsteps: 10\nplan:\n  patch_size: [16, 16, 16]\n")
    return file


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2m ", 120)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@given(st.floats(0.01, 1e5).map(lambda value: round(value, 2)), st.sampled_from([("s", 1), ("m", 60), ("h", 3600)]))
def test_durations_in_any_unit(number, unit):
    assert parse_duration(f"{number:.2f}{unit[0]}") == pytest.approx(number * unit[1])


@pytest.mark.parametrize("text", ["", "m", "10 minutes", "-5s", "1e3", "1:30", "10d"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match=r"is not a duration; write 90s, 10m or 1.5h"):
        parse_duration(text)


def test_a_recipe_with_defaults(recipe, tmp_path):
    config = load_config(recipe)
    assert config.manifest == str(tmp_path / "cards" / "tiny.yaml")
    assert (config.steps, config.time_budget, config.seed) == (10, None, 0)
    assert config.plan.patch_size == (16, 16, 16)
    assert config.augment == AugmentSettings()


def test_changes_go_down_the_tree_and_are_yaml(recipe):
    changes = ("steps=20", "plan.patch_size=[8, 8, 8]", "augment.noise_p=0", "time_budget=2m", "plan.network=unet")
    config = load_config(recipe, changes)
    assert (config.steps, config.plan.patch_size, config.augment.noise_p) == (20, (8, 8, 8), 0)
    assert (config.time_budget, config.plan.network) == (120, "unet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("step=5", "unknown key 'step'. Did you mean 'steps'"),
        ("plan.patchsize=[8]", "unknown key 'plan.patchsize'. Did you mean 'patch_size'"),
        ("augment.gama_p=0.1", "Did you mean 'gamma_p'"),
        ("steps=0", "key 'steps' is 0"),
        ("steps=many", "key 'steps' is 'many'"),
        ("optimiser.learning_rate=-1", "key 'optimiser.learning_rate' is -1"),
        ("overlap=1", "key 'overlap' is 1"),
        ("time_budget=soon", "'soon' is not a duration"),
        ("time_budget=0s", "time_budget"),
        ("augment.scale=[1.2, 0.8]", "augment.scale.*low before high"),
        ("augment.blur_sigma=[-1, 0.8]", "augment.blur_sigma.*neither below 0"),
        ("mixed_precision=maybe", "mixed_precision"),
        ("plan.network=vnet", "no network 'vnet'. Did you mean 'unet'"),
        ("steps", "--set steps: not KEY=VALUE. Write for example"),
        ("=5", "not KEY=VALUE"),
        ("steps.more=5", "'steps' is a value, not a group of keys"),
        ("steps=[5", "is not YAML"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_remedy(recipe, change, message):
    with pytest.raises(ConfigError, match=message):
        load_config(recipe, (change,))


@pytest.mark.parametrize(
    ("changes", "origin"),
    [
        (("steps=0",), "--set steps=0: key 'steps' is 0"),
        (("plan.patch_size=small",), "--set plan.patch_size=small: key 'plan.patch_size' is 'small'"),
        (("plan={patch_sise: [1]}",), "--set plan={patch_sise: [1]}: unknown key 'plan.patch_sise'. Did you mean 'patch_size'"),
        (("seed=3", "plan.batch=2"), "--set plan.batch=2: unknown key 'plan.batch'"),
        (("loss.weights.liver=-1",), "--set loss.weights.liver=-1: key 'loss.weights.liver' is -1"),
        (("plan.memory='4'",), "--set plan.memory='4': key 'plan.memory' is '4': '4' has no unit"),
        (("folds=1",), "tiny.yaml with --set folds=1: one fold is no cross-validation"),
        (("seed=3", "seed=-1"), "--set seed=-1: key 'seed' is -1"),
        (("stepps=3",), "--set stepps=3: unknown key 'stepps'. Did you mean 'steps'"),
    ],
)
def test_an_error_of_a_change_names_the_change_and_not_the_file(recipe, changes, origin):
    with pytest.raises(ConfigError) as raised:
        load_config(recipe, changes)
    assert origin in str(raised.value)
    assert str(recipe) in str(raised.value) or str(raised.value).startswith("--set")


def test_mistakes_of_file_and_change_are_told_apart(recipe):
    recipe.write_text(recipe.read_text() + "\nvalidations: none\n")
    with pytest.raises(ConfigError, match=r"--set seed=x: key 'seed' is 'x'.*; .*tiny.yaml: key 'validations' is 'none'"):
        load_config(recipe, ("seed=x",))


def test_a_changed_value_names_itself(recipe):
    with pytest.raises(ConfigError, match=r"^epochs -1: key 'epochs' is -1: a number above 0 is expected"):
        changed(load_config(recipe), epochs=-1)


def test_training_must_know_when_to_end(tmp_path):
    (tmp_path / "x.yaml").write_text("manifest: m.yaml\n")
    with pytest.raises(ConfigError, match=r"x.yaml: give 'steps', 'epochs' or 'time_budget'"):
        load_config(tmp_path / "x.yaml")


def test_another_length_takes_the_place_of_the_recipes(recipe):
    config = load_config(recipe)
    longer = changed(config, epochs=3)
    assert (longer.steps, longer.epochs, longer.time_budget) == (None, 3, None)
    assert changed(config, folds=5) == config.model_copy(update={"folds": 5})
    with pytest.raises(ConfigError, match="one fold is no cross-validation"):
        changed(config, folds=1)


def test_folds_by_number_or_by_file(recipe, tmp_path):
    assert load_config(recipe, ("folds=5",)).folds == 5
    assert load_config(recipe, ("folds=mine.json",)).folds == str(tmp_path / "recipes" / "mine.json")
    assert load_config(recipe, ("folds=5", "configurations=[2d, 3d]")).configurations == ("2d", "3d")
    assert load_config(recipe, ("folds=5", "configurations=auto")).configurations == "auto"
    with pytest.raises(ConfigError, match="a configuration occurs twice"):
        load_config(recipe, ("folds=5", "configurations=[2d, 2d]"))
    with pytest.raises(ConfigError, match="folds"):
        load_config(recipe, ("folds=-1",))


def test_on_and_off_as_yaml_reads_them(recipe):
    config = load_config(recipe, ("compile=on", "mixed_precision=off"))
    assert (config.compile, config.mixed_precision) == ("on", "off")
    assert load_config(recipe, ("compile='off'",)).compile == "off"
    with pytest.raises(ConfigError, match="key 'mixed_precision' is 'on'"):
        load_config(recipe, ("mixed_precision=on",))


def test_a_missing_recipe(tmp_path):
    with pytest.raises(MissingFileError, match=r"none.yaml"):
        load_config(tmp_path / "none.yaml")


def test_a_recipe_survives_being_saved(recipe):
    config = load_config(recipe, ("time_budget=90s",))
    assert Config.model_validate(config.model_dump(mode="json", exclude_none=True)) == config


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_of_the_repository_is_valid(file):
    assert Path(load_config(file).manifest).is_file()
