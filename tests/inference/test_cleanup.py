import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import KeepLargestConnectedComponent
from scipy.ndimage import binary_fill_holes
from skimage.measure import label as components
from skimage.morphology import remove_small_objects

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError, ModelError
from voxelry.inference.cleanup import clean

SPACING = (0.8, 1.5, 2.0)
VOXEL = 0.8 * 1.5 * 2.0


def blobs(shape, count, seed=0, fill=0.12):
    """Speckled labels: many components of every size."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, count + 1, [n // 3 + 1 for n in shape])
    array = np.kron(coarse, np.ones((3,) * len(shape), int))[tuple(slice(n) for n in shape)]
    array[rng.random(shape) < fill] = 0
    return array.astype(np.uint8)


def a_map(array, count=None):
    table = LabelTable(labels=tuple(Label(value=v, name=f"organ {v}") for v in range(1, (count or array.max()) + 1)))
    geometry = Geometry.from_spacing(array.shape, SPACING) if array.ndim == 3 else Geometry(array.shape, None, (0.5, 0.5))
    return LabelMap.of(array, geometry, table)


def all_of(labels, **rule):
    return [CleanUp(label=name, **rule) for name in labels.table.names]


def largest_alone(array, value):
    parts = components(array == value, connectivity=array.ndim)
    sizes = np.bincount(parts.ravel())[1:]
    return sizes, parts == sizes.argmax() + 1


SHAPES = [(13, 17, 11), (70, 66, 64), (40, 52), (9, 8, 1), (1, 1, 1), (2, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_largest_component_as_monai_keeps_it(shape, order):
    array = np.asarray(blobs(shape, 4), order=order)
    labels = a_map(array, 4)
    got = clean(labels, all_of(labels, keep_largest=True)).array
    theirs = KeepLargestConnectedComponent(applied_labels=[1, 2, 3, 4], is_onehot=False)(array[None])[0]
    for value in range(1, 5):
        if not (array == value).any():
            continue
        sizes, _largest = largest_alone(array, value)
        assert (got == value).sum() == sizes.max()
        if (sizes == sizes.max()).sum() == 1:  # which of equal ones is kept is a convention
            assert np.array_equal(got == value, theirs == value)


@pytest.mark.parametrize("shape", SHAPES)
def test_small_components_as_skimage_removes_them(shape):
    array = blobs(shape, 3, seed=1)
    labels = a_map(array, 3)
    size = labels.geometry.voxel_volume
    got = clean(labels, all_of(labels, min_mm3=9 * size)).array
    for value in range(1, 4):
        theirs = remove_small_objects(array == value, max_size=8, connectivity=array.ndim)
        assert np.array_equal(got == value, theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_holes_as_scipy_fills_them(shape):
    array = (blobs(shape, 1, seed=2, fill=0.3) > 0).astype(np.uint8)
    labels = a_map(array, 1)
    got = clean(labels, all_of(labels, fill_holes=True)).array
    assert np.array_equal(got > 0, binary_fill_holes(array))


@settings(max_examples=30)
@given(seed=st.integers(0, 999), wanted=st.sets(st.integers(1, 4)), axis=st.integers(0, 2))
def test_labels_without_a_rule_stay_and_axes_do_not_matter(seed, wanted, axis):
    array = blobs((12, 10, 11), 4, seed)
    labels = a_map(array, 4)
    rules = [CleanUp(label=f"organ {value}", min_mm3=5 * VOXEL, fill_holes=True) for value in sorted(wanted)]
    got = clean(labels, rules).array
    untouched = [value for value in range(1, 5) if value not in wanted]
    assert np.array_equal(np.where(np.isin(array, untouched), array, 0), np.where(np.isin(got, untouched), got, 0))
    turned = clean(a_map(np.flip(array, axis), 4), rules).array
    assert np.array_equal(np.flip(turned, axis), got)


def test_what_is_cleaned_is_clean():
    labels = a_map(blobs((20, 20, 20), 3), 3)
    rules = all_of(labels, keep_largest=True, fill_holes=True)
    once = clean(labels, rules)
    assert np.array_equal(clean(once, rules).array, once.array)


def test_the_input_is_left_and_no_rules_change_nothing():
    labels = a_map(blobs((20, 20, 20), 3), 3)
    before = labels.array.copy()
    assert clean(labels, ()) is labels
    clean(labels, all_of(labels, keep_largest=True))
    assert np.array_equal(labels.array, before)


def test_a_hole_keeps_the_other_labels_inside_it():
    array = np.zeros((9, 9, 9), np.uint8)
    array[1:8, 1:8, 1:8] = 1
    array[3:6, 3:6, 3:6] = 0
    array[4, 4, 4] = 2
    labels = a_map(array)
    got = clean(labels, [CleanUp(label="organ 1", fill_holes=True)]).array
    assert got[4, 4, 4] == 2
    assert (got[3:6, 3:6, 3:6] == 1).sum() == 26


def test_the_largest_is_removed_too_when_it_is_too_small():
    array = np.zeros((5, 5, 5), np.uint8)
    array[0, 0, 0] = 1
    labels = a_map(array)
    assert not clean(labels, [CleanUp(label="organ 1", keep_largest=True, min_mm3=2 * VOXEL)]).array.any()
    assert clean(labels, [CleanUp(label="organ 1", keep_largest=True, min_mm3=VOXEL)]).array.sum() == 1


def test_values_above_255_and_a_hundred_labels():
    array = np.zeros((70, 70, 70), np.uint16)
    array[::3, ::7, ::7] = 300
    array[40:60, 40:60, 40:60] = 300
    for value in range(1, 106):
        array[(value % 10) * 4, (value // 10) * 4 + 1, :3] = value
    labels = LabelMap.of(array, Geometry.from_spacing(array.shape, SPACING), LabelTable.numbered([300, *range(1, 106)]))
    got = clean(labels, [CleanUp(label="label_300", keep_largest=True)]).array
    _sizes, largest = largest_alone(array, 300)
    assert np.array_equal(got == 300, largest)
    assert np.array_equal(got == 7, array == 7)


def test_instances_of_removed_voxels_go_too():
    array = np.zeros((1, 6, 6, 6), np.uint8)
    array[0, :3, :3, :3] = 1
    array[0, 5, 5, 5] = 1
    ids = (array > 0).astype(np.uint32)
    ids[0, 5, 5, 5] = 2
    labels = LabelMap(array, Geometry.from_spacing((6, 6, 6), SPACING), LabelTable.numbered([1]), instances=ids)
    got = clean(labels, [CleanUp(label="label_1", keep_largest=True)])
    assert set(np.unique(got.instances)) == {0, 1}


def test_layers_are_cleaned_by_their_own_labels():
    layers = np.zeros((2, 8, 8, 8), np.uint8)
    layers[:, :4, :4, :4] = 1
    layers[:, 7, 7, 7] = 1
    table = LabelTable(labels=(Label(value=1, name="whole"), Label(value=1, name="part", layer=1)))
    labels = LabelMap(layers, Geometry.from_spacing((8, 8, 8), SPACING), table)
    got = clean(labels, [CleanUp(label="part", keep_largest=True)]).layers
    assert got[0, 7, 7, 7] == 1
    assert got[1, 7, 7, 7] == 0


def test_bad_rules_are_refused():
    labels = a_map(blobs((6, 6, 6), 2), 2)
    with pytest.raises(LabelError, match="no label 'lung'"):
        clean(labels, [CleanUp(label="lung", keep_largest=True)])
    picture = LabelMap.of(np.ones((4, 4), np.uint8), Geometry((4, 4)), LabelTable.numbered([1]))
    with pytest.raises(ModelError, match="the pixel size is not known"):
        clean(picture, [CleanUp(label="label_1", min_mm3=3)])
