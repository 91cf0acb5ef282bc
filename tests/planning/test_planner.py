import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from helpers.plans import tiny_fingerprint
from helpers.step_memory import step_memory
from voxelry.core.plan import ChannelStatistics
from voxelry.errors import ConfigError
from voxelry.planning.patch_budget import CPUS
from voxelry.planning.planner import configurations, make_plan
from voxelry.preparation.normalisation import normalise
from voxelry.recipes.settings import PlanSettings

HIPPOCAMPUS = tiny_fingerprint(shapes=((31, 40, 24), (35, 50, 36), (43, 59, 47)))
ABDOMEN = tiny_fingerprint(modality="CT", cases=30, shapes=((512, 512, 85), (512, 512, 147), (512, 512, 200)),
                           spacing=(0.76, 0.76, 3.0), spacing_range=((0.6, 0.6, 2.5), (0.9, 0.9, 5.0)))  # fmt: skip


def seen_as(median, spacing):
    return tiny_fingerprint(shapes=(median,) * 3, spacing=spacing, spacing_range=(spacing, spacing))


def why(plan, word):
    """The one reason that holds a word."""
    (reason,) = [reason for reason in plan.reasons if word in reason]
    return reason


def test_hippocampus_fits_one_patch_on_a_cpu():
    plan = make_plan(HIPPOCAMPUS, PlanSettings())
    assert (plan.orientation, plan.spacing, plan.configuration) == ("RAS", (1, 1, 1), "3d")
    assert (plan.patch_size, plan.batch_size) == ((40, 56, 40), 2)
    assert plan.network.features == (16, 32, 64, 128)
    assert plan.network.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert set(plan.network.kernels) == {(3, 3, 3)}
    assert plan.network.deep_supervision == 2
    assert [n.scheme for n in plan.normalisation] == ["image"]


def test_a_plan_says_why_in_sentences_with_numbers():
    plan = make_plan(ABDOMEN, PlanSettings(memory="8GB"))
    assert all(reason[0].isupper() and reason.endswith(".") for reason in plan.reasons)
    assert "2.5 mm, the 10th percentile" in why(plan, "target spacing")
    assert "a patch at full resolution covers 4.3% of the median case" in why(plan, "configuration")
    assert "64 x 160 x 192" in why(make_plan(ABDOMEN, PlanSettings(memory="8GB", orientation="SRA")), "A patch has")
    assert "512 x 512 x 176" in why(plan, "A patch has")
    assert "560 million" in why(plan, "A patch has")
    assert "2 fill a GPU of 8 GB" in why(plan, "A step has 2 patches")
    assert "6 stages of 32, 64, 128, 256, 320, 320 channels" in why(plan, "stages")
    assert "clipped (to -100 .. 200)" in why(plan, "Grey values")


def test_a_cpu_takes_the_resolution_at_which_a_patch_covers_enough():
    plan = make_plan(ABDOMEN, PlanSettings())
    assert plan.configuration == "3d_lowres"
    assert max(plan.spacing) / min(plan.spacing) < 2  # the coarse axis is left until the others have caught up
    median = [n * s / target for n, s, target in zip((512, 512, 147), (0.76, 0.76, 3.0), plan.spacing, strict=True)]
    assert 0.25 <= math.prod(plan.patch_size) / math.prod(median) < 0.4
    assert make_plan(ABDOMEN, PlanSettings(configuration="3d")).spacing == (0.76, 0.76, 2.5)
    assert make_plan(ABDOMEN, PlanSettings(spacing=(1, 1, 3))).configuration == "3d"  # the user has said how fine
    assert make_plan(ABDOMEN, PlanSettings(patch_size=(32, 32, 16))).configuration == "3d"


def test_configurations_that_make_sense_the_default_first():
    assert configurations(ABDOMEN, device="cuda") == ("3d", "2d", "3d_lowres", "3d_cascade")
    assert configurations(ABDOMEN) == ("3d_lowres", "3d", "2d", "3d_cascade")
    assert configurations(HIPPOCAMPUS) == configurations(HIPPOCAMPUS, PlanSettings(memory="8GB")) == ("3d", "2d")
    assert configurations(tiny_fingerprint(2)) == ("2d",)
    assert configurations(seen_as((200, 200, 1), (1.0, 1.0, 5.0))) == ("2d",)
    for seen in (ABDOMEN, HIPPOCAMPUS, tiny_fingerprint(2)):
        for name in configurations(seen):
            assert make_plan(seen, PlanSettings(configuration=name)).configuration == name


@pytest.mark.parametrize(
    ("seen", "wanted", "message"),
    [
        (
            HIPPOCAMPUS,
            "3d_lowres",
            r"'3d_lowres', but a patch covers all of the median case's voxels, and 25% is enough. Choose 3d or 2d",
        ),
        (HIPPOCAMPUS, "3d_cascade", "'3d_cascade', but"),
        (tiny_fingerprint(2), "3d", "the data are pictures. Choose 2d, or leave it out"),
        (seen_as((200, 200, 1), (1.0, 1.0, 5.0)), "3d", "the cases are single slices"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(seen, wanted, message):
    with pytest.raises(ConfigError, match=message):
        make_plan(seen, PlanSettings(configuration=wanted))


def test_slices_lie_across_the_coarsest_axis_and_keep_their_distance():
    plan = make_plan(ABDOMEN, PlanSettings(configuration="2d", memory="8GB"))
    assert (plan.slice_axis, plan.spacing, plan.patch_size) == (2, (0.76, 0.76, None), (512, 512, 1))
    assert plan.network.divisor == (128, 128, 1)
    assert {kernel[2] for kernel in plan.network.kernels} == {1}
    assert plan.network.features == (32, 64, 128, 256, 512, 512, 512, 512)
    assert "slice by slice across axis 2 (S)" in why(plan, "configuration")
    turned = make_plan(ABDOMEN, PlanSettings(configuration="2d", memory="8GB", orientation="SRA"))
    assert (turned.slice_axis, turned.patch_size) == (0, (1, 512, 512))
    single = make_plan(seen_as((1, 200, 100), (1.0, 1.0, 5.0)), PlanSettings())
    assert (single.configuration, single.slice_axis, single.patch_size[0]) == ("2d", 0, 1)


def test_patches_for_slices_are_one_voxel_deep():
    plan = make_plan(ABDOMEN, PlanSettings(configuration="2d", patch_size=(100, 64, 1), spacing=(1, 1, None)))
    assert (plan.patch_size, plan.spacing) == ((112, 64, 1), (1, 1, None))
    assert "resampled too, as the recipe asks" in why(plan, "configuration")
    with pytest.raises(ConfigError, match=r"plan.patch_size is \[64, 64, 4\], but slices are one voxel deep along axis 2"):
        make_plan(ABDOMEN, PlanSettings(configuration="2d", patch_size=(64, 64, 4)))


def test_the_second_stage_of_a_cascade_is_planned_as_the_whole_resolution():
    whole, second = (make_plan(ABDOMEN, PlanSettings(memory="8GB", configuration=name)) for name in ("3d", "3d_cascade"))
    assert second.model_copy(update={"configuration": "3d", "reasons": whole.reasons}) == whole


@effort(max_examples=40)
@given(
    median=st.tuples(*[st.integers(8, 500)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 6)] * 3),
    memory=st.sampled_from([None, "2GB", "8GB", "24GB"]),
    name=st.sampled_from(["3d", "2d"]),
)
def test_every_plan_is_consistent(median, spacing, memory, name):
    plan = make_plan(seen_as(median, spacing), PlanSettings(memory=memory, configuration=name))
    network, stages = plan.network, len(plan.network.features)
    assert all(edge % d == 0 for edge, d in zip(plan.patch_size, network.divisor, strict=True))
    assert all(edge < n + d for edge, n, d in zip(plan.patch_size, median, network.divisor, strict=True))
    assert stages > 1
    assert plan.batch_size >= 2
    assert stages == len(network.strides) == len(network.kernels)
    assert set(sum(network.strides[1:], ())) <= {1, 2}
    assert set(sum(network.kernels, ())) <= {1, 3}
    assert network.deep_supervision == (max(0, stages - 2) if network.name == "dynunet" else 0)
    if memory:
        assert step_memory(plan, 4) * (1 if plan.batch_size == 2 else 0.8) <= float(memory[:-2]) * 1e9  # batches are rounded
    elif name == "3d":
        assert stages <= CPUS[3].stages


def test_more_memory_gives_larger_patches_never_smaller():
    sizes = [
        math.prod(make_plan(ABDOMEN, PlanSettings(memory=f"{gb}GB", configuration="3d")).patch_size) for gb in (4, 8, 16, 32)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_too_little_memory_is_said():
    with pytest.raises(ConfigError, match=r"a GPU of 0.001 GB is too small for network 'dynunet'.*Give more memory"):
        make_plan(ABDOMEN, PlanSettings(memory="1MB"))


def test_ct_is_clipped_to_the_percentiles_of_the_set():
    (scheme,) = make_plan(tiny_fingerprint(modality="CT"), PlanSettings()).normalisation
    assert (scheme.scheme, scheme.low, scheme.high, scheme.mean, scheme.std) == ("global", -100, 200, 40, 20)


@pytest.mark.parametrize("value", [5.0, 3071.0, -1024.0, 0.0, 1e-9])
def test_a_ct_set_whose_labels_have_one_grey_value_is_scaled_by_each_image(value):
    flat = (ChannelStatistics(mean=value, std=0.0, p005=value, p995=value),)
    plan = make_plan(tiny_fingerprint(modality="CT", statistics=flat), PlanSettings())
    assert [scheme.scheme for scheme in plan.normalisation] == ["image"]
    assert f"one grey value ({value:g})" in why(plan, "no range to clip to")


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-6, 1.0, 1e6])
def test_a_ct_set_of_any_scale_is_clipped_and_scaled_alike(scale):
    values = (ChannelStatistics(mean=40 * scale, std=20 * scale, p005=-100 * scale, p995=200 * scale),)
    (scheme,) = make_plan(tiny_fingerprint(modality="CT", statistics=values), PlanSettings()).normalisation
    image = (np.array([[-200, -100, 40, 60, 200, 300]], np.float32) * scale).astype(np.float32)
    normalise(image, (scheme,))
    np.testing.assert_allclose(image, [[-7, -7, 0, 1, 8, 8]], rtol=1e-4, atol=1e-4)


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
    assert sum("as the recipe asks" in reason for reason in plan.reasons) == 4


def test_what_is_changed_of_the_users_settings_is_said():
    plan = make_plan(tiny_fingerprint(), PlanSettings(patch_size=(30, 30, 13), features=(8, 16, 16, 16, 16, 16)))
    assert plan.network.features == (8, 16, 16, 16)
    assert plan.patch_size == (32, 32, 14)
    assert "32 x 32 x 14 voxels, widened from the recipe's 30 x 30 x 13" in why(plan, "A patch has")
    assert "the patch allows no more of the 6 stages" in why(plan, "stages")


@pytest.mark.parametrize(
    ("settings", "cause"),
    [({"features": (8, 16)}, "plan.features asks for 2"), ({"patch_size": (8, 8, 8)}, "the patch allows 2")],
)
def test_another_network_than_the_default_is_said_and_not_laid_to_the_recipe(settings, cause):
    plan = make_plan(tiny_fingerprint(), PlanSettings(**settings))
    assert plan.network.name == "unet"
    assert why(plan, "The network is") == f"The network is unet in place of dynunet, which has at least 3 stages, and {cause}."
    kept = make_plan(tiny_fingerprint(), PlanSettings(features=(8, 16, 32)))
    assert kept.network.name == "dynunet"
    assert not any("in place of" in reason for reason in kept.reasons)


def test_small_patches_get_the_network_that_needs_fewer_stages():
    plan = make_plan(tiny_fingerprint(shapes=((12, 12, 12),) * 3), PlanSettings())
    assert (plan.network.name, len(plan.network.features)) == ("unet", 2)


def test_cases_of_a_few_voxels_are_halved_once():
    for device in ("cpu", "cuda"):
        plan = make_plan(tiny_fingerprint(shapes=((7, 5, 1),) * 3, spacing=(1.0, 2.0, 2.0)), PlanSettings(), device)
        assert (plan.network.name, plan.patch_size, plan.network.divisor) == ("unet", (8, 6, 1), (2, 2, 1))
    with pytest.raises(ConfigError, match="a patch of 7 x 5 x 1 voxels"):
        make_plan(tiny_fingerprint(), PlanSettings(patch_size=(7, 5, 1), configuration="2d"))


def test_the_coarsest_stage_is_more_than_one_voxel():
    plan = make_plan(tiny_fingerprint(shapes=((20, 30, 25),) * 3), PlanSettings(network="swinunetr"))
    assert (plan.patch_size, plan.network.divisor) == ((32, 64, 32), (32, 32, 32))


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
    assert (plan.configuration, plan.slice_axis) == ("2d", None)
    assert (plan.long_side, plan.spacing, plan.orientation) == (256, None, None)
    assert (plan.patch_size, plan.batch_size, len(plan.network.features)) == ((256, 224), 8, 6)
    larger = make_plan(seen, PlanSettings(memory="8GB"))
    assert (larger.long_side, larger.patch_size) == (512, (512, 448))
    assert make_plan(seen, PlanSettings(memory="8GB", long_side=1024)).patch_size == (1024, 896)


def test_pictures_of_a_microscope_keep_their_pixels():
    seen = tiny_fingerprint(2, modality="SM", shapes=((900, 800), (2000, 1600), (3000, 3000)), spacing=None, spacing_range=None)
    plan = make_plan(seen, PlanSettings())
    assert (plan.long_side, plan.spacing, plan.patch_size) == (None, None, (256, 256))
    assert make_plan(seen, PlanSettings(long_side=500)).long_side == 500


def test_pictures_of_known_size_may_be_brought_to_a_spacing():
    seen = tiny_fingerprint(2, shapes=((400, 400),) * 3, spacing=(0.5, 0.5), spacing_range=((0.5, 0.5),) * 2)
    plan = make_plan(seen, PlanSettings(spacing=(1.0, 1.0)))
    assert (plan.spacing, plan.long_side) == ((1.0, 1.0), None)
    assert plan.patch_size == (224, 224)  # 200 pixels, at six stages


@pytest.mark.parametrize(
    ("name", "divisor", "features"),
    [
        ("mednext", (16,) * 3, (32, 64, 128, 256, 512)),
        ("swinunetr", (32,) * 3, (24, 24, 48, 96, 192, 384)),
        ("segresnet", (32, 32, 16), (32, 64, 128, 256, 320, 320)),
        ("some.package:Network", (32, 32, 16), (32, 64, 128, 256, 320, 320)),
    ],
)
def test_other_networks_get_the_strides_that_they_need(name, divisor, features):
    seen = seen_as((200, 200, 100), (1.0, 1.0, 2.0))
    plan = make_plan(seen, PlanSettings(network=name, memory="16GB", configuration="3d"))
    assert (plan.network.name, plan.network.divisor, plan.network.features) == (name, divisor, features)
    assert step_memory(plan, 4) <= 16e9
    slices = make_plan(seen, PlanSettings(network=name, memory="16GB", configuration="2d"))
    assert (slices.patch_size[2], slices.network.divisor[2]) == (1, 1)
    assert make_plan(seen, PlanSettings(network=name)).network.features[0] < features[0] or name == "some.package:Network"


def test_presets_give_memory_and_blocks():
    seen = seen_as((200, 200, 200), (1.0, 1.0, 1.0))
    plans = {size: make_plan(seen, PlanSettings(network="resenc", preset=size), "cuda") for size in ("M", "L", "XL")}
    assert {plan.network.blocks for plan in plans.values()} == {(1, 3, 4, 6, 6, 6)}
    sizes = [math.prod(plan.patch_size) * plan.batch_size for plan in plans.values()]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    assert make_plan(seen, PlanSettings(network="resenc"), "cuda") == plans["M"]
    large = make_plan(seen, PlanSettings(network="mednext", preset="L", memory="24GB")).network
    assert (large.blocks, large.options["encoder_expansion_ratio"]) == ((3, 4, 8, 8, 8), [3, 4, 8, 8])


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
    with pytest.raises(ConfigError, match="do not state their pixel size"):
        make_plan(tiny_fingerprint(2, spacing=None, spacing_range=None), PlanSettings(spacing=(1, 1)))
