import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.plans import tiny_network, tiny_plan
from helpers.step_memory import step_memory
from voxelry.core.architectures import ARCHITECTURES
from voxelry.planning.design import Design
from voxelry.planning.patch_budget import Gpu, block, fit_gpu

PLAIN, RESIDUAL = (Gpu(8e9, ARCHITECTURES[name].gpu) for name in ("dynunet", "resenc"))
UNET = Design("dynunet", classes=3, first=32, widest=320)


@given(
    median=st.tuples(*[st.integers(1, 600)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    voxels=st.integers(4_000, 3_000_000),
)
def test_a_block_is_the_largest_cube_in_mm_that_is_afforded(median, spacing, voxels):
    found = block(median, spacing, voxels)
    assert all(1 <= edge <= n for edge, n in zip(found, median, strict=True))
    assert math.prod(found) <= voxels
    # axes that the case does not bound are equally long in mm, to the nearest voxel
    free = [(edge, s) for edge, n, s in zip(found, median, spacing, strict=True) if edge < n]
    if free:
        low, high = max((edge - 0.5) * s for edge, s in free if edge > 1 or len(free) == 1), min((e + 0.5) * s for e, s in free)
        assert low <= high + 1e-6
        grown = tuple(min(n, edge + 1) for edge, n in zip(found, median, strict=True))
        assert math.prod(grown) > voxels
    else:
        assert found == median


@pytest.mark.parametrize("voxels", [1e6, 1e8, 1e12])
def test_a_step_sees_a_twentieth_of_the_set_at_most(voxels):
    fit = fit_gpu(UNET, (40, 48, 40), (1, 1, 1), PLAIN, voxels, None)
    assert fit.patch == (40, 48, 40)
    covering = round(0.05 * voxels / (40 * 48 * 40))
    assert fit.batch == max(2, min(covering, round(560e6 / UNET.activations(fit.patch, fit.topology.strides) * 2)))
    assert fit_gpu(UNET, (40, 48, 40), (1, 1, 1), RESIDUAL, voxels, None).batch >= fit.batch  # which may see all of it


def test_a_patch_that_the_user_names_is_not_searched_for():
    fit = fit_gpu(UNET, (512, 512, 512), (1, 1, 1), PLAIN, 1e12, (300, 300, 300))
    assert (fit.patch, fit.batch) == ((320, 320, 320), 2)  # far beyond 8 GB, but asked for


def test_memory_is_eight_gigabytes_where_nnunet_says_so():
    """Its reference: two patches that put out 560 million numbers each."""
    plan = tiny_plan(patch_size=(128, 128, 128), network=tiny_network(3, (32, 64, 128, 256, 320, 320)))
    numbers = UNET.activations((128, 128, 128), plan.network.strides)
    assert step_memory(plan, 3) == round(8e9 * numbers / 560e6)
    assert 6e9 < step_memory(plan, 3) < 8e9
    assert step_memory(plan.model_copy(update={"batch_size": 4}), 3) == pytest.approx(2 * step_memory(plan, 3), abs=2)


def test_slices_take_the_memory_of_pictures():
    flat = tiny_plan(2, patch_size=(64, 64), network=tiny_network(2, (8, 16, 16)), batch_size=5)
    strides = tuple((*stride, 1) for stride in flat.network.strides)
    kernels = tuple((*kernel, 1) for kernel in flat.network.kernels)
    network = flat.network.model_copy(update={"strides": strides, "kernels": kernels})
    slices = tiny_plan(configuration="2d", slice_axis=2, patch_size=(64, 64, 1), network=network, batch_size=5)
    assert step_memory(slices, 3) == step_memory(flat, 3)


def test_a_gpu_of_more_memory_has_a_larger_limit():
    assert PLAIN.limit(3) == 560e6
    assert Gpu(16e9, PLAIN.reference).limit(3) == 2 * PLAIN.limit(3)
