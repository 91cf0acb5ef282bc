import subprocess
import sys

import pytest

from helpers.augmentation import augmenter
from voxelry.augmentation.augment_settings import AUGMENT_SETS, AugmentSettings


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


def test_settings_load_neither_torch_nor_compiled_loops():
    code = "import sys, voxelry.recipes.recipe; print(sorted({'torch', 'numba', 'SimpleITK', 'cc3d', 'scipy'} & {*sys.modules}))"
    result = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
