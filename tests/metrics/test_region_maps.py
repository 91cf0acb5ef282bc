"""Regions scored as labels on layers: against unions by hand, whatever form a prediction has."""

import numpy as np
import pytest

import voxelry as vx
from voxelry.base.files import write_yaml
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError, UsageError
from voxelry.formats.grids.nifti_write import write_nifti
from voxelry.metrics.families import measure
from voxelry.metrics.region_maps import region_map

TABLE = LabelTable(
    labels=(Label(value=1, name="necrosis"), Label(value=2, name="edema"), Label(value=4, name="enhancing")), ignore=9
)
REGIONS = {"whole": ("necrosis", "edema", "enhancing"), "core": ("necrosis", "enhancing"), "enhancing tumour": ("enhancing",)}
GRID = Geometry.from_spacing((12, 11, 10), (1.0, 1.0, 2.0))
BY_HAND = {"whole": [1, 2, 4], "core": [1, 4], "enhancing tumour": [4]}


def tumour(seed, ignore=True):
    values = [0, 0, 1, 2, 4, 9] if ignore else [0, 0, 1, 2, 4]
    return np.random.default_rng(seed).choice(values, GRID.shape).astype(np.uint8)


def dice(truth, guess, members):
    counted = truth != 9
    one, two = np.isin(truth, members) & counted, np.isin(guess, members) & counted
    return 2 * (one & two).sum() / (one.sum() + two.sum())


@pytest.mark.parametrize("form", ["named", "numbered", "regions"])
def test_regions_are_unions_whatever_form_the_prediction_has(form):
    truth, guess = tumour(0), tumour(1, ignore=False)
    reference = LabelMap.of(truth, GRID, TABLE)
    prediction = LabelMap.of(guess, GRID, LabelTable.numbered([1, 2, 4]) if form == "numbered" else TABLE)
    if form == "regions":  # as a network that learnt them predicts them, on layers
        prediction = region_map(prediction, REGIONS, TABLE)
    scores = measure(reference, prediction, regions=REGIONS, metrics=["rates", "surface"])
    assert scores.labels == tuple(REGIONS)
    for k, (name, members) in enumerate(BY_HAND.items()):
        assert scores.dice[0, k] == pytest.approx(dice(truth, guess, members)), name
        inside, outside = np.isin(guess, members), ~np.isin(truth, members) & (truth != 9)
        assert scores.values["specificity"][0, k] == pytest.approx((~inside & outside).sum() / outside.sum())
    assert scores.mean_dice == pytest.approx(np.mean([dice(truth, guess, members) for members in BY_HAND.values()]))


def test_a_value_of_one_for_ignored_voxels_stays_apart():
    table = LabelTable(labels=(Label(value=2, name="a"), Label(value=3, name="b")), ignore=1)
    truth = np.array([[0, 1, 2, 3]], np.uint8)
    maps = [LabelMap.of(array, Geometry((1, 4)), table) for array in (truth, np.array([[0, 2, 2, 0]], np.uint8))]
    assert measure(*maps, regions={"both": ("a", "b")}).dice.tolist() == [[2 / 3]]


@pytest.mark.parametrize(
    ("regions", "words"), [({"x": ("edma",)}, r"'edma', which is no label.*edema"), ({"x": ()}, "'x' has no labels")]
)
def test_regions_of_other_labels_are_refused(regions, words):
    reference = LabelMap.of(tumour(0), GRID, TABLE)
    with pytest.raises(UsageError, match=words):
        measure(reference, reference, regions=regions)


def test_values_without_a_meaning_are_refused():
    reference = LabelMap.of(tumour(0), GRID, TABLE)
    with pytest.raises(LabelError, match=r"values \[7\]"):
        measure(reference, LabelMap.of(np.full(GRID.shape, 7, np.uint8), GRID, TABLE), regions=REGIONS)


def test_evaluate_takes_the_regions_of_a_recipe(tmp_path):
    for folder, seed in (("refs", 0), ("out", 1)):
        (tmp_path / folder).mkdir()
        write_nifti(LabelMap.of(tumour(seed, ignore=False), GRID, TABLE), tmp_path / folder / "a.nii.gz")
    recipe = tmp_path / "recipe.yaml"
    write_yaml(recipe, {"manifest": "card.yaml", "steps": 1, "loss": {"regions": {k: list(v) for k, v in REGIONS.items()}}})
    scores = vx.evaluate(tmp_path / "refs", tmp_path / "out", regions=recipe)
    assert scores.labels == tuple(REGIONS)
    plain = tmp_path / "plain.yaml"
    write_yaml(plain, {"manifest": "card.yaml", "steps": 1})
    with pytest.raises(UsageError, match="learns no regions"):
        vx.evaluate(tmp_path / "refs", tmp_path / "out", regions=plain)
