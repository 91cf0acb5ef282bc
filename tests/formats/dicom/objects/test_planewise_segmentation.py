import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as hnp

from voxelry.formats.dicom.objects.planewise_segmentation import layers_overlap


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=3), elements={"min_value": 0, "max_value": 2}))
def test_overlap_by_counting(layers):
    assert layers_overlap(layers) == bool((np.count_nonzero(layers, axis=0) > 1).any())
