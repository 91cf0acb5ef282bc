import subprocess
import sys

import pytest
import yaml

from helpers.augmentation import augmenter
from voxelry.augmentation.settings import AUGMENT_SETS, OLD_KEYS, AugmentSettings
from voxelry.base.schema import parse
from voxelry.errors import ConfigError


def test_sets_fill_what_is_left_out():
    light = AugmentSettings(set="light", noise_p=0.9)
    assert light.noise_p == 0.9
    assert light.rotation == AUGMENT_SETS["light"]["rotation"]
    assert light.flip_axes == ()
    assert AugmentSettings.model_validate_json(light.model_dump_json()) == light


@pytest.mark.parametrize(
    ("modality", "dimensions", "device", "name"),
    [
        ("DX", 2, "cuda", "xray"),
        ("cr", 2, "cpu", "xray"),
        ("MR", 3, "cpu", "light"),
        ("CT", 3, "cuda:1", "nnunet"),
        ("DX", 3, "cuda", "nnunet"),
    ],
)
def test_auto_follows_data_and_device(modality, dimensions, device, name):
    given = AugmentSettings(gamma_p=0.77)
    chosen = given.chosen(modality, dimensions, device)
    assert chosen == AugmentSettings(set=name, gamma_p=0.77)
    assert chosen.chosen("US", 2, "cpu") is chosen
    assert AugmentSettings.model_validate_json(given.model_dump_json()).chosen(modality, dimensions, device) == chosen


def test_auto_keeps_what_was_given_also_where_it_is_the_default():
    given = AugmentSettings(low_resolution_p=0.25, rotation=None)
    again = AugmentSettings.model_validate_json(given.model_dump_json())
    for one in (given.chosen("MR", 3, "cpu"), again.chosen("MR", 3, "cpu")):
        assert (one.low_resolution_p, one.rotation, one.noise_p) == (0.25, None, AUGMENT_SETS["light"]["noise_p"])


def test_every_set_is_drawn_from():
    for name, patch in (("nnunet", (8, 8, 8)), ("light", (8, 8, 8)), ("xray", (8, 8))):
        change = augmenter(AugmentSettings(set=name), patch)
        assert len({change.draw(seed) for seed in range(50)}) > 30


OLD = """
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


def test_old_words_load_with_one_warning(caplog):
    settings = AugmentSettings.model_validate(yaml.safe_load(OLD))
    assert settings == AugmentSettings(
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
    assert len(caplog.records) == 1
    for words in ("'noise' is now 'noise_p'", "'factor' is now 'brightness_factor' and 'contrast_factor'"):
        assert words in caplog.text
    assert "'recipe' is now 'nnunet'" in caplog.text


@pytest.mark.parametrize("key", OLD_KEYS)
def test_every_old_key_has_keys_that_take_its_place(key, caplog):
    value = (0.9, 1.1) if key == "factor" else 0.35
    settings = AugmentSettings.model_validate({key: value})
    assert {getattr(settings, new) for new in OLD_KEYS[key]} == {value}
    assert settings.model_fields_set == {*OLD_KEYS[key]}
    assert caplog.text.count(f"'{key}' is now") == 1


def test_todays_words_load_without_a_warning(caplog):
    AugmentSettings.model_validate(AugmentSettings(set="xray").model_dump())
    assert not caplog.records


def test_an_old_key_beside_the_new_one_is_refused():
    with pytest.raises(ConfigError, match="'noise' is the old word for 'noise_p', and both are given; leave out 'noise'"):
        parse(AugmentSettings, {"noise": 0.1, "noise_p": 0.2}, "recipe.yaml")


def test_settings_load_neither_torch_nor_compiled_loops():
    code = "import sys, voxelry.recipes.recipe; print(sorted({'torch', 'numba', 'SimpleITK', 'cc3d', 'scipy'} & {*sys.modules}))"
    result = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
