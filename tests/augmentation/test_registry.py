"""What is drawn: how often, in which range, in the order of the registry."""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from helpers.augmentation import INTENSITY, augmenter, grey, params_of, plan_of
from helpers.plans import SIDED
from voxelry.augmentation.augment_settings import AugmentSettings, with_keys_of
from voxelry.augmentation.augmenter import Augmenter
from voxelry.augmentation.gpu_augmentation import augment_batch
from voxelry.augmentation.registry import AUGMENTATIONS

ROOT = Path(__file__).parents[2]
KINDS = [each.name for each in INTENSITY]


def test_how_often_each_change_is_drawn():
    change = augmenter(AugmentSettings(set="nnunet"), (16, 16, 16), channels=("a", "b"))
    draws = [change.draw(seed) for seed in range(3000)]
    share = {kind: np.mean([any(each.kind == kind for each in drawn.changes) for drawn in draws]) for kind in KINDS}
    wanted = {"noise": 0.1, "blur": 0.2 * 0.75, "brightness": 0.15, "contrast": 0.15, "low_resolution": 0.25 * 0.75}
    wanted |= {"inverted_gamma": 0.1, "gamma": 0.3}
    for kind in KINDS:
        assert abs(share[kind] - wanted.get(kind, 0)) < 0.03, kind
    assert abs(np.mean([change.move(drawn).interpolates for drawn in draws]) - (1 - 0.8**2)) < 0.03


def test_numbers_stay_in_their_ranges_and_reach_their_ends():
    chosen = AugmentSettings(set="nnunet", **dict.fromkeys(("noise_p", "blur_p", "gamma_p", "contrast_p", "low_resolution_p"), 1))
    change = augmenter(chosen, (16, 16, 16))
    drawn = [each for seed in range(800) for each in change.draw(seed).changes]
    for kind, low, high in (("gamma", 0.7, 1.5), ("contrast", 0.75, 1.25), ("blur", 0.5, 1.0), ("low_resolution", 8, 16)):
        numbers = np.array([np.ravel(each.params) for each in drawn if each.kind == kind])
        assert low <= numbers.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < numbers.max() <= high
    gammas = np.array([each.params.exponent for each in drawn if each.kind == "gamma"])
    assert abs((gammas < 1).mean() - 0.5) < 0.08  # as often below 1 as above, whatever the range's middle


def test_each_channel_of_each_patch_has_noise_of_its_own():
    change = augmenter(AugmentSettings(set="nnunet", noise_p=1), (16, 16), channels=("a", "b"))
    noise = [params_of(change.draw(seed), "noise") for seed in range(50)]
    assert all(first.sigma == second.sigma for first, second in noise)  # of one strength
    assert len({params.key for pair in noise for params in pair}) == 100


def test_the_example_of_the_how_to_is_drawn_applied_and_documented(monkeypatch):
    page = ROOT / "docs" / "how-to" / "add-an-augmentation.md"
    example = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
    module = ModuleType("voxelry.augmentation.posterise")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(example, vars(module))
    augmentations = (*AUGMENTATIONS, module.Posterise())
    keys = with_keys_of(augmentations)
    off = {key: 0 for key in keys.model_fields if key.endswith("_p")}
    change = Augmenter(plan_of((8, 8, 8)), keys(set="nnunet", **off | {"posterise_p": 1, "posterise_levels": 3}), SIDED)
    record = change.draw(0)
    (params,) = params_of(record, "posterise")
    assert 2 <= params.levels <= 3
    image, classes = grey((1, 8, 8, 8)), np.zeros((8, 8, 8), np.int16)
    on_cpu, _ = change.apply(record, np.zeros(3, np.int64), image, classes)
    assert len(on_cpu.unique()) == params.levels
    on_gpu, _ = augment_batch(torch.from_numpy(image)[None], torch.from_numpy(classes)[None], [record], change)
    assert torch.allclose(on_gpu[0], on_cpu, atol=1e-5)
    text = runpy.run_path(str(ROOT / "docs" / "generate.py"))["augmentation_page"](augmentations)
    assert "| `posterise_levels` | 8 | most grey values that are left |" in text
    assert "| `posterise` | grey values | Rounds grey values to a few levels" in text


def test_names_and_keys_are_not_shared():
    assert len({each.name for each in AUGMENTATIONS}) == len(AUGMENTATIONS)
    kinds = {each.settings for each in AUGMENTATIONS}
    keys = [key for kind in kinds for key in kind.model_fields]
    assert sorted(keys) == sorted({*keys} & {*AugmentSettings.model_fields})
    assert all(AugmentSettings.model_fields[key].description for key in AugmentSettings.model_fields)
    for each in INTENSITY:
        assert f"{each.name}_p" in each.settings.model_fields
