import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxelry.preparation.dominant_value import dominant_value


@given(hnp.arrays(np.int16, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(-2, 2)))
def test_a_value_of_more_than_half_the_voxels_is_the_dominant_one(array):
    values, counts = np.unique(array, return_counts=True)
    value, share = dominant_value(array)
    assert share == (array == value).mean()
    if counts.max() * 2 > array.size:
        assert (value, share) == (values[counts.argmax()], counts.max() / array.size)


def test_large_and_tiny_images():
    array = np.full((60, 70, 80), 1e-9, np.float32)
    assert dominant_value(array) == (float(np.float32(1e-9)), 1.0)
    array[3, 4, 5] = 2e-9
    assert dominant_value(array)[1] == 1 - 1 / array.size
    assert dominant_value(array[0])[1] == 1.0
