from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage

from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import UsageError
from voxelry.metrics.segments import segments_info
from voxelry.phantom.dataset import write_phantoms
from voxelry.phantom.dental import ACQUISITION, NUMBERS, TABLE
from voxelry.phantom.phantom import make_phantom

KIND = "dental-panoramic"


@lru_cache(maxsize=8)
def picture(seed):
    return make_phantom(KIND, seed)


def middles(labels):
    """FDI number -> row and column of the tooth's middle."""
    present = np.unique(labels[labels > 0]).tolist()
    return dict(zip(present, ndimage.center_of_mass(labels > 0, labels, present), strict=True))


def test_most_patients_have_28_to_32_teeth_and_some_lack_more():
    counts = [len(middles(picture(seed).labels.array)) for seed in range(8)]
    assert 22 <= min(counts) < 28
    assert np.mean([28 <= count <= 32 for count in counts]) >= 0.5


@pytest.mark.parametrize("seed", range(4))
def test_teeth_stand_in_the_order_of_their_numbers(seed):
    where = middles(picture(seed).labels.array)
    for quadrant in (1, 2, 3, 4):
        columns = [where[number][1] for number in sorted(where) if number // 10 == quadrant]
        outwards = -1 if quadrant in (1, 4) else 1  # the patient's right is on the left of the picture
        assert (outwards * np.diff(columns) > 0).all()
    assert max(place[0] for number, place in where.items() if number < 30) < min(
        place[0] for number, place in where.items() if number > 30
    )


@pytest.mark.parametrize("seed", range(4))
def test_each_tooth_is_one_object_and_some_touch(seed):
    labels = picture(seed).labels
    assert np.array_equal(labels.instances, labels.layers)
    for number in np.unique(labels.array[labels.array > 0]):
        _, parts = ndimage.label(labels.array == number, np.ones((3, 3)))
        assert parts == 1, number
    _, pieces = ndimage.label(labels.array > 0, np.ones((3, 3)))
    assert pieces < len(middles(labels.array)) - 3


def test_another_pixel_size_shows_the_same_patient_at_the_same_place():
    fine, coarse = picture(1).labels, make_phantom(KIND, 1, replace(ACQUISITION, spacing=(1.2, 1.2, 1.0))).labels
    small, large = middles(fine.array), middles(coarse.array)
    assert small.keys() == large.keys()
    for number, place in small.items():
        assert np.abs(np.array(place) + 0.5 - 2 * (np.array(large[number]) + 0.5)).max() < 2


def test_teeth_are_brighter_than_bone_and_bone_than_air():
    found = picture(2)
    image, teeth = found.volume.array[0].astype(float), found.labels.array > 0
    assert image[teeth].mean() > 1.3 * image[~teeth & (image > 0.15 * image.max())].mean()
    assert found.volume.modality == "PX"


def test_every_label_has_its_fdi_number_and_a_twin_across_the_middle():
    assert tuple(label.value for label in TABLE.labels) == NUMBERS
    for label in TABLE.labels:
        assert label.name == f"tooth_{label.value}"
        assert label.kind == "thing"
        side = {1: 2, 2: 1, 3: 4, 4: 3}[label.value // 10]
        assert label.mirror == f"tooth_{10 * side + label.value % 10}"


def test_a_set_says_that_each_label_is_one_object(tmp_path):
    manifest = load_manifest(write_phantoms(tmp_path, KIND, 1, format="png", acquisition=replace(ACQUISITION, noise=0.0)))
    _, labels = load_case(manifest.cases[0], manifest)
    assert labels.table == TABLE
    assert len(np.unique(labels.instances)) == len(np.unique(labels.array))
    assert len(segments_info(labels)) == len(np.unique(labels.array)) - 1


@pytest.mark.parametrize("change", [{"tilt": 5.0}, {"rotation": (0.0, 0.0, 3.0)}])
def test_arches_laid_flat_are_not_turned(change):
    with pytest.raises(UsageError, match="panoramic"):
        make_phantom(KIND, 0, replace(ACQUISITION, **change))
