import logging
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from helpers.kidneys import config, kidneys, run
from voxelry.core.label_sequence import LabelSequence
from voxelry.core.labels import Label
from voxelry.datasets.card import Card
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import ConfigError, ManifestError, ModelError, SplitLeakError
from voxelry.networks.classes import make_regions
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.phantom import coarse_acquisition
from voxelry.planning.plan_file import load_plan, save_plan
from voxelry.training.options import RunOptions
from voxelry.training.setup import dataset_fingerprint, labelled_cases, make_plans, prepare_cases


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


def test_things_without_an_object_are_warned_of(manifest, caplog):
    """An id map of zeros: every voxel has a class, none an object."""
    cases = []
    for case in manifest.cases:
        stored = nibabel.load(case.labels)
        file = case.labels.with_name(f"{case.id}_ids.nii.gz")
        nibabel.save(nibabel.Nifti1Image(np.zeros(stored.shape, np.uint16), stored.affine), file)
        cases.append(replace(case, instances=file))
    labels = tuple(label.model_copy(update={"kind": "thing"}) for label in manifest.card.labels)
    manifest = replace(manifest, card=manifest.card.model_copy(update={"labels": labels}), cases=tuple(cases))
    fingerprint = fingerprint_of(manifest)
    assert fingerprint.objects.total == 0
    assert "voxels but no object in any training case, so its objects cannot be learnt: 'left', 'right'" in caplog.text


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


UNPAIRED = "labels that name a side have no mirror twin: "


def relabelled(manifest, labels):
    return replace(manifest, card=Card.model_validate(manifest.card.model_dump() | {"labels": labels}))


@pytest.mark.parametrize(
    ("names", "alone"),
    [
        (("left kidney", "right kidney"), "left kidney, right kidney"),
        (("l_kidney", "r_kidney"), "l_kidney, r_kidney"),
        (("kidney_L", "kidney_R"), "kidney_L, kidney_R"),
        (("ren sinister", "ren dexter"), "ren sinister, ren dexter"),
        (("Niere links", "Niere rechts"), "Niere links, Niere rechts"),
        (("liver", "KidneyRight"), "KidneyRight"),
    ],
)
@pytest.mark.parametrize(
    ("changes", "key"),
    [({"flips": (0,)}, "flips"), ({"flips": (0, 1, 2)}, "flips"), ({"augment": {"flip_axes": (0,)}}, "augment.flip_axes")],
)
def test_flips_from_side_to_side_need_twins(manifest, seen, names, alone, changes, key):
    labels = tuple(Label(value=value, name=name) for value, name in zip((2, 6), names, strict=True))
    other = relabelled(manifest, labels)
    with pytest.raises(ConfigError, match=rf"^{key} mirrors axis 0.*{UNPAIRED}{alone}\. Give each its twin as 'mirror'"):
        plans(config(**changes), other, seen)
    for harmless in ({"flips": (1, 2)}, {"augment": {"flip_axes": (1,)}}, {"augment": {"flip_axes": "auto"}}):
        plans(config(**harmless), other, seen)
    twinned = tuple(
        label.model_copy(update={"mirror": label.name if "liver" in names else twin.name})
        for label, twin in zip(labels, labels[::-1], strict=True)
    )
    plans(config(**changes), relabelled(manifest, twinned), seen)


def test_a_given_plan_that_flips_from_side_to_side_needs_twins_too(manifest, seen, given):
    labels = (Label(value=2, name="left"), Label(value=6, name="right"))
    other = relabelled(manifest, labels)
    with pytest.raises(ConfigError, match=f"{UNPAIRED}left, right"):
        plans(config(), other, seen, given.model_copy(update={"flips": (0,)}))
    with pytest.raises(ConfigError, match="could not tell left from right"):
        plans(config(), other, seen, given.model_copy(update={"flips": (1,), "orientation": None}))


def test_blank_images_are_named_and_refused_where_all_are(manifest, caplog):
    cases = labelled_cases(manifest, "train")

    def blank(case, grey):
        image = nibabel.load(case.images[0])
        nibabel.save(nibabel.Nifti1Image(np.full(image.shape, grey, np.int16), image.affine), case.images[0])

    blank(cases[0], 3071)
    with caplog.at_level(logging.WARNING):
        dataset_fingerprint(manifest, cases, lambda *_: None)
    assert [record.getMessage() for record in caplog.records] == ["case 'case0': 1 of 1 channels hold one grey value alone"]
    for number, case in enumerate(cases):
        blank(case, number)  # each another value: scaled by its own mean, all are 0
    with pytest.raises(ManifestError, match=r"tiny\.yaml: each of the 3 images holds one grey value alone"):
        dataset_fingerprint(manifest, cases, lambda *_: None)


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e7])
def test_grey_values_of_any_size_are_prepared_alike(manifest, tmp_path, scale):
    cases = labelled_cases(manifest, "train")
    plan = plans(config(), manifest, dataset_fingerprint(manifest, cases, lambda *_: None))["3d"]
    before = np.array(prepare_cases(manifest, plan, cases[:1], tmp_path / "one", lambda *_: None)[0].image)
    image = nibabel.load(cases[0].images[0])
    scaled = (np.asarray(image.dataobj) * scale).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(scaled, image.affine), cases[0].images[0])
    after = np.array(prepare_cases(manifest, plan, cases[:1], tmp_path / "other", lambda *_: None)[0].image)
    assert before.std() > 0.9
    np.testing.assert_allclose(after, before, atol=5e-3)  # float16


def test_rows_of_labels_are_measured_and_planned(tmp_path):
    manifest = load_manifest(
        write_phantoms(tmp_path, "spine-mri", 2, format="nifti", acquisition=coarse_acquisition("spine-mri"))
    )
    seen = fingerprint_of(manifest)
    vertebrae, discs = seen.sequences
    assert vertebrae.present == (2,) * 5
    assert all(20 < spread.mean < 60 for row in (vertebrae, discs) for spread in row.distances)
    assert vertebrae.direction[2] < -0.9
    plan = plans(config(), manifest, seen)["3d"]
    assert plan.sequences == seen.sequences
    save_plan(plan, tmp_path / "plan.yaml")
    assert load_plan(tmp_path / "plan.yaml") == plan


def test_a_given_plan_with_a_row_of_labels_that_the_data_lack(manifest, seen, given):
    row = LabelSequence(name="row", labels=("left", "middle"))
    with pytest.raises(ConfigError, match="row of labels that the data lack: middle"):
        plans(config(), manifest, seen, given.model_copy(update={"sequences": (row,)}))
