from itertools import permutations

import pytest
import torch
from torch.nn import functional

from voxelry.errors import ModelError
from voxelry.exchange.nnunet_axes import AxisOrder


@pytest.mark.parametrize("forward", list(permutations(range(3))))
def test_a_convolution_of_transposed_axes_is_the_same(forward):
    order = AxisOrder.of("SimpleITKIO", forward, 3)
    stored, weight = torch.randn(1, 2, 5, 6, 7), torch.randn(3, 2, 1, 3, 5)
    read = stored.permute(0, 1, 4, 3, 2)  # as (z, y, x)
    theirs = functional.conv3d(read.permute(0, 1, *(2 + axis for axis in forward)), weight)
    ours = functional.conv3d(stored, order.weights(weight))
    assert torch.allclose(ours.permute(0, 1, *(2 + axis for axis in order.ours)), theirs, atol=1e-5)
    assert torch.equal(order.weights_back(order.weights(weight)), weight)
    assert order.of_network(order.per_axis((1, 3, 5), 0)) == (1, 3, 5)


@pytest.mark.parametrize("forward", list(permutations(range(3))))
def test_slices_are_those_of_the_first_axis(forward):
    order = AxisOrder.of("NibabelIO", forward, 2)
    stored, weight = torch.randn(6, 7, 8), torch.randn(1, 1, 3, 5)
    slices = stored.permute(2, 1, 0).permute(*forward)
    moved = stored.movedim(order.slice_axis, 0)
    theirs = functional.conv2d(slices[:, None], weight)
    ours = functional.conv2d(moved[:, None], order.weights(weight))
    swapped = order.ours[0] > order.ours[1]
    assert torch.allclose(ours.transpose(2, 3) if swapped else ours, theirs, atol=1e-5)
    assert order.per_axis((3, 5), 1)[order.slice_axis] == 1


def test_pictures_stay_and_what_is_unknown_is_refused():
    assert AxisOrder.of("NaturalImage2DIO", (0, 1, 2), 2).ours == (0, 1)
    assert AxisOrder.of("NaturalImage2DIO", (0, 2, 1), 2).ours == (1, 0)
    with pytest.raises(ModelError, match="'Tiff3DIO' is not known"):
        AxisOrder.of("Tiff3DIO", (0, 1, 2), 3)
    with pytest.raises(ModelError, match="pictures for a network of 3 axes"):
        AxisOrder.of("NaturalImage2DIO", (0, 1, 2), 3)
