from dataclasses import replace

import nibabel
import numpy as np
import pytest

from helpers.kidneys import config, kidneys, run
from voxelry.errors import ConfigError, ManifestError, ModelError, SplitLeakError
from voxelry.networks.classes import make_regions
from voxelry.training.options import RunOptions
from voxelry.training.setup import dataset_fingerprint, labelled_cases, make_plans


def plans(recipe, manifest, fingerprint, plan=None):
    """The plans of a recipe, or of a given plan."""
    return make_plans(RunOptions(recipe, manifest, plan=plan), fingerprint)


REGIONS = {"both": ("left", "right"), "other": ("right",)}


@pytest.fixture
def manifest(tmp_path):
    return kidneys(tmp_path)


@pytest.fixture
def seen(manifest):
    return dataset_fingerprint(manifest, labelled_cases(manifest, "train"), lambda *_: None)


@pytest.fixture
def given(manifest, seen):
    return plans(config(), manifest, seen)["3d"]


def emptied(manifest, *numbers, label=None, value=0):
    """The set, with a label of some masks, or all labels, replaced by a value."""
    for number in numbers:
        file = manifest.cases[number].labels
        stored = nibabel.load(file)
        array = np.asarray(stored.dataobj)
        array = np.where(array == label, value, array) if label else np.full_like(array, value)
        nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), stored.affine), file)
    return manifest


def fingerprint_of(manifest):
    return dataset_fingerprint(manifest, labelled_cases(manifest, "train"), lambda *_: None)


def test_a_sound_set_is_measured_without_a_warning(manifest, caplog):
    fingerprint_of(manifest)
    assert caplog.text == ""


@pytest.mark.parametrize("value", [0, 9])
def test_masks_of_which_none_teaches_are_refused_before_training(manifest, value):
    card = manifest.card.model_copy(update={"ignore": 9})
    with pytest.raises(ManifestError, match=r"nothing to learn: none of 3 training masks has a labelled voxel\. Check the masks"):
        fingerprint_of(replace(emptied(manifest, 0, 1, 2, value=value), card=card))


def test_labels_and_masks_of_which_nothing_is_learnt_are_warned_of(manifest, caplog):
    fingerprint_of(emptied(manifest, 1))
    assert "1 of 3 training masks hold no labelled voxel: case1" in caplog.text
    caplog.clear()
    fingerprint_of(emptied(manifest, 0, 2, label=6))
    assert "in none of 3 training cases, so it cannot be learnt: 'right'" in caplog.text


def test_remarks_of_the_manifest_are_warned_of(manifest, caplog):
    fingerprint_of(replace(manifest, remarks=("2 masks have no image: a, b",)))
    assert "tiny.yaml: 2 masks have no image: a, b" in caplog.text


def test_a_file_on_two_sides_is_refused_before_anything_is_read(manifest):
    shared = replace(manifest.cases[0], id="copy", group="copy", split="val")
    with pytest.raises(SplitLeakError, match=r"'case0' .train. and 'copy' .val. are the same image"):
        fingerprint_of(replace(manifest, cases=(*manifest.cases, shared)))


@pytest.mark.parametrize(("cases", "words"), [((), "it lists no cases at all"), (slice(3, 4), r"it has 1 \(1 val\)")])
def test_no_training_case_is_explained(manifest, cases, words):
    few = manifest.cases[cases] if isinstance(cases, slice) else cases
    with pytest.raises(ManifestError, match=f"no labelled cases in split 'train'; {words}"):
        labelled_cases(replace(manifest, cases=few), "train")


def test_a_given_plan_learns_the_regions_of_the_recipe(manifest, seen, given):
    regions = make_regions(REGIONS, manifest.card.table)
    asked = config(loss={"regions": REGIONS})
    assert plans(asked, manifest, seen, given)["3d"].regions == regions
    # a plan that names them needs no recipe to
    with_regions = given.model_copy(update={"regions": regions})
    assert plans(config(), manifest, seen, with_regions)["3d"].regions == regions
    assert plans(asked, manifest, seen, with_regions)["3d"].regions == regions


def test_other_regions_than_those_of_the_given_plan(manifest, seen, given):
    with_regions = given.model_copy(update={"regions": make_regions(REGIONS, manifest.card.table)})
    asked = config(loss={"regions": {"both": ("left", "right"), "one": ("left",)}})
    with pytest.raises(
        ConfigError, match=r"both \(left \+ right\), other \(right\), the recipe's loss both \(left \+ right\), one \(left\)"
    ):
        plans(asked, manifest, seen, with_regions)


def test_several_configurations_beside_one_given_plan(manifest, seen, given):
    with pytest.raises(ConfigError, match=r"asks for 2d, 3d, but one plan of '3d' is given. Leave out"):
        plans(config(folds=2, configurations=("2d", "3d")), manifest, seen, given)
    assert list(plans(config(folds=2, configurations=("3d",)), manifest, seen, given)) == ["3d"]


def test_a_second_stage_given_without_its_first(manifest, seen, given):
    second = given.model_copy(update={"configuration": "3d_cascade"})
    with pytest.raises(ConfigError, match=r"there is none for its first. Leave the plan out, and set 'configurations'"):
        plans(config(folds=2), manifest, seen, second)


def test_a_weight_of_no_label_is_told_before_anything_is_prepared(manifest, seen):
    with pytest.raises(ConfigError, match=r"loss.weights names 'rigth', which is no label. Did you mean 'right'"):
        plans(config(loss={"weights": {"rigth": 2.0}}), manifest, seen)


def test_no_model_to_start_from_is_told_before_anything_is_prepared(manifest, seen, tmp_path):
    with pytest.raises(ModelError, match=r"nope: not a model folder"):
        plans(config(initial=str(tmp_path / "nope")), manifest, seen)


def test_pictures_do_not_start_from_a_model_of_volumes(manifest, tmp_path):
    model = run(manifest, tmp_path / "volumes", config(steps=1))[0].path
    pictures = replace(manifest, card=manifest.card.model_copy(update={"dimensions": 2}))
    for plan in ({}, {"batch_size": 1}):
        with pytest.raises(ConfigError, match=r"model: a model of 3D images, the data are 2D. Start from another"):
            plans(config(initial=str(model), plan=plan), pictures, None)


def test_a_run_tells_what_it_took_over(manifest, tmp_path):
    model = run(manifest, tmp_path / "first", config(steps=1))[0].path
    _, stages = run(manifest, tmp_path / "second", config(steps=1, initial=str(model)))
    (told,) = [what for what, _, _ in stages if what.startswith("from ")]
    assert told.startswith(f"from {model}: ")
    assert told.endswith("tensors taken over")


def test_a_plan_of_other_channels(manifest, seen, given):
    other = replace(manifest, card=manifest.card.model_copy(update={"channels": ("T2",)}))
    with pytest.raises(ConfigError, match=r"with channels image; the data are 3D with T2. Plan for these data"):
        plans(config(), other, seen, given)
