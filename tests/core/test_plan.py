import pytest
from pydantic import ValidationError

from helpers.plans import IDENTITY, tiny_fingerprint, tiny_network, tiny_plan
from voxelry.base.files import read_yaml, write_yaml
from voxelry.base.schema import parse
from voxelry.core.plan import Fingerprint, Normalisation, Plan
from voxelry.errors import ConfigError


def refused(message, **changes):
    tree = tiny_plan().model_dump(mode="json") | changes
    with pytest.raises(ConfigError, match=message):
        parse(Plan, tree, "plan.yaml")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_plan_survives_a_file(tmp_path, dimensions):
    plan = tiny_plan(dimensions, reasons=("because",))
    write_yaml(tmp_path / "plan.yaml", plan.model_dump(mode="json", exclude_none=True))
    assert parse(Plan, read_yaml(tmp_path / "plan.yaml"), "plan.yaml") == plan


def test_a_fingerprint_survives_json():
    seen = tiny_fingerprint(2, spacing=None, spacing_range=None)
    assert Fingerprint.model_validate_json(seen.model_dump_json()) == seen


def test_the_divisor_is_the_product_of_strides():
    network = tiny_network(3, strides=((1, 1, 1), (2, 2, 1), (2, 2, 2)), kernels=((3, 3, 1), (3, 3, 3), (3, 3, 3)))
    assert network.divisor == (4, 4, 2)


@pytest.mark.parametrize(("codes", "axis"), [("RAS", 0), ("LPS", 0), ("SAR", 2), ("als", 1)])
def test_the_side_axis_runs_left_to_right(codes, axis):
    assert tiny_plan(orientation=codes).side_axis == axis


def test_the_side_axis_of_a_picture_is_its_columns():
    assert tiny_plan(2).side_axis == 1


def test_orientations_are_kept_in_capitals():
    assert tiny_plan(orientation="lps").orientation == "LPS"


@pytest.mark.parametrize("codes", ["RA", "RLS", "RAX", "RASS", ""])
def test_what_is_no_orientation(codes):
    refused("plan.yaml: key 'orientation'.*is not an orientation", orientation=codes)


def test_numbers_that_contradict_each_other_are_named():
    refused("patch_size has 2 axes, dimensions is 3", patch_size=[8, 8])
    refused("spacing has 1 axes, dimensions is 3", spacing=[1.0])
    refused(r"patch_size \(8, 8, 9\) is not divisible by the network's strides \(9 % 4\)", patch_size=[8, 8, 9])
    refused("2 normalisations for 1 channels", normalisation=[IDENTITY.model_dump()] * 2)
    refused(r"flips \(3,\) are not among the axes 0..2", flips=[3])
    refused("each once", flips=[1, 1])
    refused("network.strides has 2 axes, dimensions is 3", network=tiny_network(2).model_dump(mode="json"))


def test_a_network_of_uneven_stages_is_refused():
    whole = tiny_network(3).model_dump(mode="json")
    refused("of 2, 3 and 3 stages", network=whole | {"features": [4, 8]})
    refused("of 0, 0 and 0 stages", network=whole | {"features": [], "strides": [], "kernels": []})
    refused(
        "'dynunet' has at least 3 stages, not 2", network=tiny_network(3, (4, 8), name="unet").model_dump() | {"name": "dynunet"}
    )
    refused("same number of axes", network=whole | {"kernels": [[3, 3, 3], [3, 3, 3], [3, 3]]})


def test_a_global_scheme_needs_its_numbers():
    with pytest.raises(ValueError, match="needs low, high, mean and std"):
        Normalisation(scheme="global", low=0.0, high=1.0, mean=0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": (1.0,)},
        {"spacing_range": ((1.0, 1.0, 1.0), (1.0, 1.0))},
        {"extent_range": ((1.0,), (1.0, 1.0, 1.0))},
        {"shapes": ((8, 8), (8, 8, 8), (8, 8, 8))},
        {"grey_range": ()},
        {"grey_range": ((0.0, 1.0),), "statistics": ()},
        {"grey_range": ((0.0, 1.0), (0.0, 1.0))},
        {"content_shape": (1.0, 2.0, 3.0, 4.0)},
        {"spacing_fine": ()},
    ],
)
def test_ranges_of_another_length_than_axes_or_channels_are_refused(change):
    known = tiny_fingerprint().model_dump()
    with pytest.raises(ValidationError, match=r"for (3 axes|1 channels)"):
        Fingerprint.model_validate(known | change)
