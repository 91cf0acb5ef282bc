import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from voxelry.preparation import class_locations as module
from voxelry.preparation.class_locations import class_counts, class_locations


@given(arrays(np.int8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(-1, 4)), st.integers(1, 50))
def test_every_voxel_of_a_small_class_by_brute_force(classes, chunk):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_CHUNK", chunk)
        found, counts = class_locations(classes, 5), class_counts(classes, 5)
    assert counts == {k: n for k in range(5) if (n := int((classes == k).sum()))}
    ignored = (classes == -1).any()
    expected = {k: np.argwhere(classes == k) for k in range(0 if ignored else 1, 5)}
    assert set(found) == {k for k, voxels in expected.items() if len(voxels)} | ({0} if ignored else set())
    for index, voxels in found.items():
        np.testing.assert_array_equal(voxels, expected[index])
        assert voxels.dtype == np.int32


@pytest.mark.parametrize(("number", "kept"), [(10, 10), (10_001, 10_000), (900_000, 10_000), (1_000_001, 10_001), (2e6, 20_000)])
def test_as_many_are_kept_as_the_recipe_says(number, kept):
    classes = np.zeros(2_000_000, np.int16)
    classes[np.random.default_rng(0).permutation(2_000_000)[: int(number)]] = 3
    voxels = class_locations(classes, 4)[3][:, 0]
    assert len(voxels) == kept == len(set(voxels.tolist()))
    assert (classes[voxels] == 3).all()


def test_they_are_spread_evenly_and_not_in_step_with_the_grid(monkeypatch):
    monkeypatch.setattr(module, "LOCATIONS_PER_CLASS", 100)
    classes = np.ones((100, 100), np.int8)
    voxels = class_locations(classes, 2)[1]
    assert len(voxels) == 100
    for axis in (0, 1):
        assert np.histogram(voxels[:, axis], 5, (0, 100))[0].min() >= 12
    np.testing.assert_array_equal(voxels, class_locations(classes, 2)[1])


def test_a_case_without_labels_has_no_places():
    assert class_locations(np.zeros((3, 4), np.int8), 3) == {}
    nothing = class_locations(np.full((3, 4), -1, np.int8), 3)
    assert list(nothing) == [0]
    assert nothing[0].shape == (0, 2)
