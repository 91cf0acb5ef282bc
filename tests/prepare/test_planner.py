import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans import tiny_fingerprint
from voxelry.config import PlanSettings
from voxelry.errors import ConfigError
from voxelry.plan import ChannelStatistics
from voxelry.prepare.planner import MEANS, make_plan, topology, window

HIPPOCAMPUS = tiny_fingerprint(shapes=((31, 40, 24), (35, 50, 36), (43, 59, 47)))
CPU = MEANS["cpu", 3]


def test_hippocampus_fits_one_window_on_a_cpu():
    plan = make_plan(HIPPOCAMPUS, PlanSettings())
    assert plan.orientation == "RAS"
    assert plan.spacing == (1, 1, 1)
    assert all(edge >= n for edge, n in zip(plan.patch_size, (35, 50, 36), strict=True))
    assert plan.network.features == (16, 32, 64, 128)
    assert plan.network.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert set(plan.network.kernels) == {(3, 3, 3)}
    assert plan.network.deep_supervision == 2
    assert [n.scheme for n in plan.normalisation] == ["image"]
    assert any("window" in reason for reason in plan.reasons)


def test_ct_is_clipped_to_the_percentiles_of_the_set():
    (scheme,) = make_plan(tiny_fingerprint(modality="CT"), PlanSettings()).normalisation
    assert (scheme.scheme, scheme.low, scheme.high, scheme.mean, scheme.std) == ("global", -100, 200, 40, 20)


def test_a_ct_set_without_any_contrast_has_a_finite_plan():
    flat = (ChannelStatistics(mean=5.0, std=0.0, p005=5.0, p995=5.0),)
    (scheme,) = make_plan(tiny_fingerprint(modality="CT", statistics=flat), PlanSettings()).normalisation
    assert scheme.std > 0


@given(
    median=st.tuples(*[st.integers(1, 600)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    voxels=st.integers(4_000, 3_000_000),
)
def test_a_window_is_the_largest_cube_in_mm_that_is_afforded(median, spacing, voxels):
    block = window(median, spacing, voxels)
    assert all(1 <= edge <= n for edge, n in zip(block, median, strict=True))
    assert math.prod(block) <= voxels
    # axes that the case does not bound are equally long in mm, to the nearest voxel
    free = [(edge, s) for edge, n, s in zip(block, median, spacing, strict=True) if edge < n]
    if free:
        low, high = max((edge - 0.5) * s for edge, s in free if edge > 1 or len(free) == 1), min((e + 0.5) * s for e, s in free)
        assert low <= high + 1e-6
        grown = tuple(min(n, edge + 1) for edge, n in zip(block, median, strict=True))
        assert math.prod(grown) > voxels
    else:
        assert block == median


@given(
    median=st.tuples(*[st.integers(8, 500)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 6)] * 3),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_every_plan_is_consistent(median, spacing, device):
    seen = tiny_fingerprint(shapes=(median, median, median), spacing=spacing, spacing_range=(spacing, spacing))
    plan = make_plan(seen, PlanSettings(), device)
    network = plan.network
    assert all(edge % d == 0 and edge // d >= 2 for edge, d in zip(plan.patch_size, network.divisor, strict=True))
    assert len(network.features) == len(network.strides) == len(network.kernels) <= MEANS[device, 3].stages
    assert network.strides[0] == (1, 1, 1)
    assert set(sum(network.strides[1:], ())) <= {1, 2}
    assert set(sum(network.kernels, ())) <= {1, 3}
    assert network.deep_supervision <= max(0, len(network.features) - 2)


def test_coarse_axes_are_halved_once_the_others_have_caught_up():
    network = topology((128, 128, 32), (1.0, 1.0, 4.0), MEANS["cuda", 3], PlanSettings())
    assert network.strides[:4] == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert network.kernels[:3] == ((3, 3, 1), (3, 3, 3), (3, 3, 3))


def test_no_axis_is_halved_below_four_voxels():
    network = topology((64, 64, 9), (1.0, 1.0, 1.0), MEANS["cuda", 3], PlanSettings())
    assert network.strides == ((1, 1, 1), (2, 2, 2), *((2, 2, 1),) * 3)


def test_thick_slices_are_brought_to_the_finest_of_the_set():
    seen = tiny_fingerprint(
        shapes=((300, 300, 20), (320, 320, 24), (400, 400, 40)),
        spacing=(0.7, 0.7, 5.0),
        spacing_range=((0.5, 0.5, 2.0), (0.9, 0.9, 7.0)),
    )
    plan = make_plan(seen, PlanSettings())
    assert plan.spacing == (0.7, 0.7, 2.0)
    assert any("slices lie 5 mm apart" in reason for reason in plan.reasons)


@pytest.mark.parametrize(
    ("seen", "target", "axis"),
    [
        ((0.7, 0.7, 5.0), None, 2),
        ((0.7, 0.7, 2.0), None, None),
        ((0.7, 0.7, 2.2), None, 2),
        ((4.0, 1.0, 1.1), None, 0),
        ((5.0, 5.0, 1.0), None, None),  # no single coarse axis
        ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0), 1),  # what the user asks for counts too
        ((1.0, 1.0, 5.0), (1.0, 1.0, 1.0), 2),
    ],
)
def test_nothing_is_interpolated_along_a_coarse_axis(seen, target, axis):
    fingerprint = tiny_fingerprint(shapes=((90,) * 3, (100,) * 3, (110,) * 3), spacing=seen, spacing_range=(seen, seen))
    plan = make_plan(fingerprint, PlanSettings(spacing=target))
    assert plan.coarse_axis == axis
    assert plan.image_orders == tuple(0 if one == axis else 3 for one in range(3))
    assert plan.label_orders == tuple(0 if one == axis else 1 for one in range(3))
    assert any("resampled one by one" in reason for reason in plan.reasons) == (axis is not None)


def test_grey_values_are_normalised_inside_the_content_where_it_is_small():
    schemes = [make_plan(tiny_fingerprint(content=share), PlanSettings()).normalisation[0].scheme for share in (0.74, 0.75, 1.0)]
    assert schemes == ["mask", "image", "image"]
    assert make_plan(tiny_fingerprint(content=0.5, modality="CT"), PlanSettings()).normalisation[0].scheme == "global"


def test_the_users_settings_win():
    settings = PlanSettings(spacing=(2, 2, 2), patch_size=(16, 24, 32), batch_size=5, features=(8, 16, 24), network="unet")
    plan = make_plan(tiny_fingerprint(), settings, overlap=0.25, flips=(0,))
    assert (plan.spacing, plan.patch_size, plan.batch_size) == ((2, 2, 2), (16, 24, 32), 5)
    assert (plan.network.features, plan.network.name) == ((8, 16, 24), "unet")
    assert (plan.overlap, plan.flips) == (0.25, (0,))


def test_what_is_changed_of_the_users_settings_is_said():
    plan = make_plan(tiny_fingerprint(), PlanSettings(patch_size=(30, 30, 13), features=(8, 16, 16, 16, 16, 16)))
    assert plan.network.features == (8, 16, 16, 16)
    assert plan.patch_size == (32, 32, 16)
    assert "window 30 x 30 x 13 widened to 32 x 32 x 16, which the network's strides divide" in plan.reasons
    assert "4 of 6 stages: the window allows no more" in plan.reasons


def test_small_windows_get_the_network_that_needs_fewer_stages():
    plan = make_plan(tiny_fingerprint(shapes=((12, 12, 12),) * 3), PlanSettings())
    assert (plan.network.name, len(plan.network.features)) == ("unet", 2)


def test_numbers_follow_the_axes_of_another_orientation():
    seen = tiny_fingerprint(
        shapes=((10, 20, 30), (12, 22, 32), (14, 24, 34)), spacing=(4.0, 1.0, 1.5), spacing_range=((4.0, 1.0, 1.5),) * 2
    )
    plan = make_plan(seen, PlanSettings(orientation="sla"))
    assert plan.orientation == "SLA"
    assert plan.spacing == (1.5, 4.0, 1.0)
    assert plan.side_axis == 1
    assert plan.patch_size[1] == min(plan.patch_size)


def test_stored_axes_are_kept_where_all_cases_agree_on_them():
    seen = tiny_fingerprint(spacing=(4.0, 1.0, 1.5), spacing_range=((4.0, 1.0, 1.5),) * 2, orientations={"AIR": 3, "PSL": 1})
    plan = make_plan(seen, PlanSettings(orientation="stored"))
    assert (plan.orientation, plan.spacing) == (None, (1.0, 1.5, 4.0))
    mixed = seen.model_copy(update={"orientations": {"AIR": 3, "RAS": 1}})
    with pytest.raises(ConfigError, match=r"axes differ in order \(AIR, RAS\). Set plan.orientation to RAS"):
        make_plan(mixed, PlanSettings(orientation="stored"))


def test_pictures_are_scaled_to_what_a_step_affords():
    seen = tiny_fingerprint(2, modality="CR", shapes=((900, 800), (2000, 1600), (3000, 3000)), spacing=None, spacing_range=None)
    plan = make_plan(seen, PlanSettings())
    assert (plan.long_side, plan.spacing, plan.orientation) == (256, None, None)
    assert math.prod(plan.patch_size) <= 1.3 * MEANS["cpu", 2].voxels
    assert len(plan.network.features) == 6


def test_pictures_of_known_size_may_be_brought_to_a_spacing():
    seen = tiny_fingerprint(2, shapes=((400, 400),) * 3, spacing=(0.5, 0.5), spacing_range=((0.5, 0.5),) * 2)
    plan = make_plan(seen, PlanSettings(spacing=(1.0, 1.0)))
    assert (plan.spacing, plan.long_side) == ((1.0, 1.0), None)
    assert plan.patch_size == (224, 224)  # 200 pixels, at six stages


@pytest.mark.parametrize(
    ("dimensions", "settings", "flips", "message"),
    [
        (3, {"spacing": (1, 1)}, (), r"plan.spacing is \[1.0, 1.0\]: 3 numbers"),
        (3, {"patch_size": (8, 8, 8, 8)}, (), "plan.patch_size is .*: 3 numbers"),
        (2, {"patch_size": (8, 8, 8)}, (), "2 numbers are needed for 2D"),
        (3, {"orientation": "RAX"}, (), "plan.orientation: 'RAX' is not an orientation.*'stored'"),
        (3, {"orientation": "RLS"}, (), "plan.orientation"),
        (3, {"long_side": 100}, (), "plan.long_side is 100 beside 3D data"),
        (2, {"long_side": 100, "spacing": (1, 1)}, (), "plan.long_side is 100 beside plan.spacing"),
        (3, {"features": (8,)}, (), "1 stages are too small for network 'unet'"),
        (3, {"features": (8, 16), "network": "dynunet"}, (), "2 stages are too small for network 'dynunet'.*at least 3"),
        (3, {"patch_size": (4, 4, 4)}, (), "4 x 4 x 4 voxels and 4 stages are too small"),
        (2, {}, (2,), r"flips is \[2\]: the data have axes 0..1"),
        (3, {}, (0, 0), "Name each at most once"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(dimensions, settings, flips, message):
    with pytest.raises(ConfigError, match=message):
        make_plan(tiny_fingerprint(dimensions), PlanSettings(**settings), flips=flips)


def test_a_spacing_for_pictures_of_unknown_size_is_refused():
    with pytest.raises(ConfigError, match="do not say their pixel size"):
        make_plan(tiny_fingerprint(2, spacing=None, spacing_range=None), PlanSettings(spacing=(1, 1)))
