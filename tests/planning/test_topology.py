import math

from hypothesis import given
from hypothesis import strategies as st

from voxelry.planning.topology import SMALLEST_EDGE, Topology, halving, padded, topology

edges, sizes = st.integers(1, 600), st.floats(0.3, 8)


@given(patch=st.tuples(*[edges] * 3), spacing=st.tuples(*[sizes] * 3), most=st.none() | st.integers(1, 6))
def test_axes_are_halved_by_the_rule(patch, spacing, most):
    found = topology(patch, spacing, most)
    assert len(found.strides) == len(found.kernels) <= (most or 99)
    assert found.strides[0] == (1, 1, 1)
    assert found.kernels[-1] == (3, 3, 3)
    assert set(sum(found.strides, ())) <= {1, 2}
    assert set(sum(found.kernels, ())) <= {1, 3}
    size = padded(patch, found.divisor)
    bottom = [edge // d for edge, d in zip(size, found.divisor, strict=True)]
    assert all(n >= SMALLEST_EDGE for n, d in zip(bottom, found.divisor, strict=True) if d > 1)
    now = list(spacing)
    for stride in found.strides[1:]:
        halved = [s for s, step in zip(now, stride, strict=True) if step == 2]
        assert max(halved) < 2 * min(halved)
        now = [s * step for s, step in zip(now, stride, strict=True)]
    for before, after in zip(found.kernels, found.kernels[1:], strict=False):
        assert all(one <= other for one, other in zip(before, after, strict=True))  # once 3 long, always


@given(patch=st.tuples(edges, edges), spacing=st.tuples(sizes, sizes))
def test_a_patch_that_is_deep_enough_can_be_halved_no_more(patch, spacing):
    found = topology(patch, spacing)
    assert topology(patch, spacing, len(found.strides) + 1) == found
    assert len(topology(patch, spacing, 2).strides) == min(2, len(found.strides))


def test_coarse_axes_are_halved_once_the_others_have_caught_up():
    found = topology((128, 128, 32), (1.0, 1.0, 4.0))
    assert found.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert found.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_no_axis_is_halved_below_four_voxels():
    assert topology((64, 64, 9), (1.0, 1.0, 1.0)).strides == ((1, 1, 1), (2, 2, 2), *((2, 2, 1),) * 3)
    assert topology((7, 7, 7), (1.0, 1.0, 1.0)).strides == ((1, 1, 1),)


def test_an_axis_alone_is_halved_while_it_is_twelve_voxels_long():
    assert topology((11, 4, 4), (1.0, 1.0, 1.0)).strides == ((1, 1, 1),)
    assert topology((12, 4, 4), (1.0, 1.0, 1.0)).strides == ((1, 1, 1), (2, 1, 1))


def test_slices_are_neither_halved_nor_seen_across():
    found = Topology(((1, 1), (2, 2)), ((3, 3), (3, 3))).across(1)
    assert found == Topology(((1, 1, 1), (2, 1, 2)), ((3, 1, 3), (3, 1, 3)))
    assert found.divisor == (2, 1, 2)


def test_some_networks_halve_every_axis():
    found = halving(3, 5)
    assert found.divisor == (16, 16, 16)
    assert padded((1, 16, 33.5), found.divisor) == (16, 16, 48)
    assert math.prod(halving(2, 6).divisor) == 32 * 32
