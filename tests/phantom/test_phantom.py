from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from nibabel.orientations import aff2axcodes
from pydicom.sr._concepts_dict import concepts
from scipy import ndimage

from voxelry.core.labels import ANATOMICAL_STRUCTURE
from voxelry.errors import UsageError
from voxelry.phantom.phantom import ACQUISITIONS, CHANNELS, KINDS, TABLES, make_phantom
from voxelry.phantom.spine import BRIGHTEST

COARSE = {"spine-discs": replace(ACQUISITIONS["spine-discs"], spacing=(2.5, 2.5, 4.0))}
SOFT = ("liver", "spleen", "kidney_left", "kidney_right", "liver_lesion")


@lru_cache(maxsize=24)
def phantom(kind, seed, acquisition=None):
    return make_phantom(kind, seed, acquisition or COARSE.get(kind))


def centroid(found, name):
    return found.labels.geometry.world(np.argwhere(found.labels.mask(name)).mean(axis=0))


def best_interval_dice(image, mask, step=4):
    """The Dice of the best of all intervals of grey values: what no threshold, single or double, can beat."""
    edges = np.arange(-200, 401, step)
    everywhere, _ = np.histogram(image, edges)
    inside, _ = np.histogram(image[mask], edges)
    a, m = np.r_[0, everywhere.cumsum()], np.r_[0, inside.cumsum()]
    dice = 2 * (m[None] - m[:, None]) / np.maximum(a[None] - a[:, None] + mask.sum(), 1)
    return np.triu(dice, 1).max()


def test_the_interval_oracle_finds_a_threshold_where_one_exists():
    image = np.zeros((9, 9, 9))
    image[2:5] = 100
    assert best_interval_dice(image, image == 100) == 1


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_solves_a_soft_organ(seed):
    found = phantom("torso-ct", seed)
    image = found.volume.array[0]
    scores = {name: best_interval_dice(image, found.labels.mask(name)) for name in SOFT}
    assert max(scores.values()) < 0.6, scores


@pytest.mark.parametrize("seed", range(2))
def test_no_threshold_solves_a_vertebra_or_disc_in_any_channel(seed):
    found = phantom("spine-mri", seed)
    for label in found.labels.table.labels:
        mask = found.labels.mask(label.name)
        scores = [best_interval_dice(channel / 5 - 100, mask, 2) for channel in found.volume.array]
        assert max(scores) < 0.4, (label.name, scores)


def test_no_threshold_solves_the_lungs_of_an_x_ray():
    found = phantom("chest-xray", 0)
    assert best_interval_dice(found.volume.array[0] / 10 - 100, found.labels.array > 0) < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(kind):
    one, again, other = phantom(kind, 0), make_phantom(kind, 0, COARSE.get(kind)), phantom(kind, 1)
    assert one.volume.array.tobytes() == again.volume.array.tobytes()
    assert one.labels.layers.tobytes() == again.labels.layers.tobytes()
    assert one.volume.array.tobytes() != other.volume.array.tobytes()
    assert (one.labels.layers != other.labels.layers).mean() > 0.005


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_every_label_is_there_and_the_words_agree(kind, seed):
    found = phantom(kind, seed)
    counts = {name: int(found.labels.mask(name).sum()) for name in found.labels.table.names}
    here = [count for count in counts.values() if count or kind != "dental-panoramic"]  # people lack teeth
    assert min(here) >= 60, counts
    found.labels.table.check_values(np.unique(found.labels.layers), kind)
    assert found.volume.geometry.same_grid(found.labels.geometry)
    assert found.volume.channels == len(CHANNELS[kind])
    assert found.volume.array.dtype == np.int16
    assert "synthetic" in found.volume.source.remarks[0]


def test_default_grids_lie_as_a_scanner_stores_them():
    assert aff2axcodes(phantom("torso-ct", 0).volume.geometry.affine) == ("L", "P", "S")
    assert aff2axcodes(phantom("spine-mri", 0).volume.geometry.affine) == ("P", "I", "R")
    assert phantom("chest-xray", 0).volume.geometry.pixel_size == (1.5, 1.5)


@pytest.mark.parametrize("seed", range(5))
def test_lesions_are_surrounded_by_liver_and_apart(seed):
    labels = phantom("torso-ct", seed).labels
    lesion, liver = labels.mask("liver_lesion"), labels.mask("liver")
    shell = ndimage.binary_dilation(lesion) & ~lesion
    assert liver[shell].all()
    count = ndimage.label(lesion, np.ones((3, 3, 3)))[1]
    assert 1 <= count <= 3


@pytest.mark.parametrize("seed", range(5))
def test_lesions_are_darker_than_the_liver(seed):
    found = phantom("torso-ct", seed)
    image = found.volume.array[0]
    core = ndimage.binary_erosion(found.labels.mask("liver_lesion"))
    liver = ndimage.binary_erosion(found.labels.mask("liver"))
    assert image[liver].mean() - image[core].mean() > 25


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": (8.0, -6.0, 12.0)},
        {"tilt": 15.0},
        {"axes": "PIR", "fov": (320.0, 300.0, 380.0)},
        {"spacing": (3.0, 3.0, 8.0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_anatomy_stays_in_place_whatever_the_grid(change):
    wide = replace(ACQUISITIONS["torso-ct"], fov=(384.0, 320.0, 300.0))
    plain, other = phantom("torso-ct", 4, wide), make_phantom("torso-ct", 4, replace(wide, **change))
    for name in SOFT:
        np.testing.assert_allclose(centroid(other, name), centroid(plain, name), atol=1.5)
        volumes = [f.labels.mask(name).sum() * f.labels.geometry.voxel_volume for f in (plain, other)]
        assert volumes[1] == pytest.approx(volumes[0], rel=0.12)


def test_only_a_tilted_grid_is_sheared():
    how = ACQUISITIONS["torso-ct"]
    assert replace(how, rotation=(10, 20, 30)).grid().is_orthogonal
    tilted = replace(how, tilt=12.0).grid()
    assert not tilted.is_orthogonal
    assert tilted.spacing == pytest.approx(how.spacing)
    assert tilted.voxel_volume == pytest.approx(np.prod(how.spacing) * np.cos(np.radians(12)))


@pytest.mark.parametrize("seed", range(3))
def test_left_is_left(seed):
    torso = phantom("torso-ct", seed)
    assert centroid(torso, "kidney_left")[0] < -30 < 30 < centroid(torso, "kidney_right")[0]
    assert centroid(torso, "spleen")[0] < 0 < centroid(torso, "liver")[0]


def test_the_patients_right_lung_is_on_the_left_of_the_picture():
    labels = phantom("chest-xray", 0).labels
    columns = {name: np.argwhere(labels.mask(name))[:, 1] for name in labels.table.names}
    assert columns["lung_right"].max() < columns["lung_left"].min() + 5


@pytest.mark.parametrize("seed", range(2))
def test_the_heart_overlaps_the_left_lung_most(seed):
    labels = phantom("chest-xray-heart", seed).labels
    left, right, heart = (labels.mask(name) for name in ("lung_left", "lung_right", "heart"))
    assert 0.2 < (left & heart).sum() / heart.sum() < 0.6
    assert (right & heart).sum() < (left & heart).sum()
    assert (heart & ~left & ~right).any()
    assert not (left & right).any()


def test_lungs_are_darker_than_what_lies_between_them():
    found = phantom("chest-xray", 0)
    image, lungs = found.volume.array[0].astype(float), found.labels.array > 0
    rows = np.flatnonzero(lungs.any(axis=1))
    middle = image[rows[0] : rows[-1], 122:134]
    assert image[lungs].mean() < 0.8 * middle.mean()


def test_levels_are_stacked_from_the_pelvis_up():
    found = phantom("spine-mri", 2)
    order = ["vertebra_L5", "disc_L4_L5", "vertebra_L4", "disc_L3_L4", "vertebra_L3", "disc_L2_L3", "vertebra_L2"]
    heights = [centroid(found, name)[2] for name in ["disc_L5_S1", *order, "disc_L1_L2", "vertebra_L1"]]
    assert np.diff(heights).min() > 0


@pytest.mark.parametrize("seed", range(3))
def test_seven_discs_of_one_value_lie_apart(seed):
    labels = phantom("spine-discs", seed).labels
    parts, count = ndimage.label(labels.array, np.ones((3, 3, 3)))
    assert count == 7
    heights = [centroid[2] for centroid in labels.geometry.world(ndimage.center_of_mass(parts, parts, range(1, 8)))]
    assert np.diff(sorted(heights)).min() > 15


def test_the_channels_of_discs_are_those_of_their_card():
    quiet = replace(COARSE["spine-discs"], noise=0.0)
    fat, both, apart, water = make_phantom("spine-discs", 0, quiet).volume.array.astype(int)
    assert np.abs(both - (water + fat)).max() <= 1
    assert np.abs(apart - np.abs(water - fat)).max() <= 1
    assert water.mean() != pytest.approx(fat.mean(), rel=0.05)


def test_each_vertebra_is_one_piece():
    labels = phantom("spine-mri", 0).labels
    for level in range(1, 6):
        parts, count = ndimage.label(labels.mask(f"vertebra_L{level}"), np.ones((3, 3, 3)))
        assert np.bincount(parts.ravel())[1:].max() > 0.95 * (parts > 0).sum(), count


def test_dixon_channels_are_sums_and_differences():
    clean = make_phantom("spine-mri", 0, replace(ACQUISITIONS["spine-mri"], noise=0.0))
    both, apart, water, fat = clean.volume.array.astype(int)
    assert np.abs(both - (water + fat)).max() <= 1
    assert np.abs(apart - np.abs(water - fat)).max() <= 1
    assert 0.5 * BRIGHTEST < water.max() < 2 * BRIGHTEST


def test_noise_and_bias_do_what_they_say():
    quiet = replace(ACQUISITIONS["torso-ct"], noise=0.0)
    clean, noisy, shaded = (
        make_phantom("torso-ct", 0, replace(quiet, **change)) for change in ({}, {"noise": 20.0}, {"bias": 0.1})
    )
    body = clean.volume.array[0] > -150
    assert np.std((noisy.volume.array - clean.volume.array)[0][body]) == pytest.approx(20, rel=0.05)
    assert np.array_equal(clean.labels.array, noisy.labels.array)
    ratio = (shaded.volume.array[0][body] + 1000.0) / (clean.volume.array[0][body] + 1000.0)
    assert 0.02 < ratio.std() < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_every_snomed_code_is_in_pydicoms_dictionary(kind):
    known = {(value, meaning) for entry in concepts["SCT"].values() for value, (meaning, *_) in entry.items()}
    for label in TABLES[kind].labels:
        assert label.type is not None
        for code in (label.type, label.modifier, label.category):
            if code not in (None, ANATOMICAL_STRUCTURE) and code.scheme == "SCT":
                assert (code.value, code.meaning) in known, (label.name, code)


@pytest.mark.parametrize(("kind", "seed", "word"), [("torso", 0, "torso-ct"), ("torso-ct", -1, "negative")])
def test_a_wrong_call_is_told_the_remedy(kind, seed, word):
    with pytest.raises(UsageError, match=word):
        make_phantom(kind, seed)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"spacing": (0.0, 1.0, 1.0)}, "positive"),
        ({"tilt": 60.0}, "tilt of 60"),
        ({"noise": -1.0}, "negative"),
        ({"axes": "LPX"}, "LPX"),
        ({"axes": "LPR"}, "LPR"),
    ],
)
def test_an_acquisition_without_a_grid_is_refused(change, word):
    with pytest.raises(UsageError, match=word):
        replace(ACQUISITIONS["torso-ct"], **change).grid()


def test_a_projection_cannot_be_tilted():
    with pytest.raises(UsageError, match="rotation"):
        make_phantom("chest-xray", 0, replace(ACQUISITIONS["chest-xray"], tilt=5.0))
