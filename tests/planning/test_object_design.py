import math

import pytest

from helpers.plans import tiny_fingerprint
from voxelry.core.object_statistics import ObjectStatistics
from voxelry.errors import ConfigError
from voxelry.planning.object_design import BORDER, LARGEST, SMALLEST, TOUCHING
from voxelry.planning.planner import make_plan
from voxelry.recipes.settings import PlanSettings


def objects(touching=0, diameter=(8.0, 20.0, 30.0), total=100, unit="mm"):
    return ObjectStatistics(total=total, per_case=(1, 20, 40), diameter=diameter, touching=touching, unit=unit)


def cells(each, dimensions=3, **changes):
    nothing = ObjectStatistics(total=0, per_case=(0, 0, 0))
    return tiny_fingerprint(dimensions, objects=each, objects_by_label={"cell": each, "gone": nothing}, **changes)


def plan_of(fingerprint, **settings):
    return make_plan(fingerprint, PlanSettings(**settings))


def test_without_things_nothing_changes():
    plan = plan_of(tiny_fingerprint())
    assert plan.instances is None
    assert plan == plan_of(tiny_fingerprint(), instances="none")
    assert not any("object" in reason for reason in plan.reasons)


def test_touching_objects_are_learnt_and_others_are_components():
    at_least = math.ceil(TOUCHING * 100)
    near, apart = (plan_of(cells(objects(touching=count))) for count in (at_least, at_least - 1))
    assert (near.instances.decoder, apart.instances.decoder) == ("watershed", "components")
    assert near.instances.labels == apart.instances.labels == ("cell",)
    assert near.instances.border == near.instances.erosion == BORDER * 20
    assert apart.instances.border == apart.instances.erosion == apart.instances.head_channels == 0
    assert "Of 100 objects 2.0% touch another, no less than 2%, so the network learns their borders" in near.reasons[-2]
    assert "1.0% touch another, less than 2%, so touching voxels are one object" in " ".join(apart.reasons)


@pytest.mark.parametrize("name", ["components", "watershed"])
@pytest.mark.parametrize("touching", [0, 90])
def test_what_the_recipe_asks_wins(name, touching):
    plan = plan_of(cells(objects(touching)), instances=name)
    assert plan.instances.decoder == name
    assert any(reason.endswith("as the recipe asks.") and "touch another" in reason for reason in plan.reasons)


@pytest.mark.parametrize("fingerprint", [tiny_fingerprint(), cells(objects(diameter=None, total=0))])
def test_objects_that_are_asked_for_must_be_there(fingerprint):
    with pytest.raises(ConfigError, match=r"plan\.instances is 'watershed', but the training cases have no objects of a thing"):
        plan_of(fingerprint, instances="watershed")


def test_a_thing_without_objects_is_told():
    plan = plan_of(cells(objects(diameter=None, total=0)))
    assert plan.instances is None
    assert "The training cases have no objects of a thing, so none are told apart." in plan.reasons


def test_the_smallest_is_half_as_wide_as_all_but_the_smallest():
    wide = SMALLEST * 8
    assert plan_of(cells(objects())).instances.smallest == pytest.approx(math.pi * wide**3 / 6, abs=1e-3)
    assert plan_of(cells(objects(unit="pixels"), 2, spacing=None, spacing_range=None)).instances.smallest == pytest.approx(
        math.pi * wide**2 / 4, abs=1e-3
    )


def test_nothing_is_eroded_across_thick_slices():
    thick = cells(objects(50), spacing=(1, 1, 4), spacing_range=((1, 1, 4),) * 2)
    assert plan_of(thick).instances.coarse_axis == 2
    assert plan_of(cells(objects(50))).instances.coarse_axis is None
    slices = plan_of(cells(objects(50)), configuration="2d")
    assert slices.instances.coarse_axis == slices.slice_axis is not None


def test_voxels_grow_until_objects_are_of_a_workable_size():
    huge = objects(50, diameter=(50.0, 256.0, 300.0))
    plan = plan_of(cells(huge))
    assert plan.spacing == (256 / LARGEST,) * 3
    assert any("The median object is 256 across, 256 voxels; at 4 x 4 x 4 it is 64" in reason for reason in plan.reasons)
    assert plan_of(cells(huge), spacing=(1.0, 1.0, 1.0)).spacing == (1, 1, 1)
    assert plan_of(cells(huge), instances="components").spacing == (1, 1, 1)
    flat = cells(huge, spacing=(1, 1, 6), spacing_range=((1, 1, 6),) * 2)
    assert plan_of(flat, instances="watershed").spacing == (4, 4, 6)


@pytest.mark.parametrize("same", [True, False])
def test_pictures_of_one_size_are_scaled_to_their_objects(same):
    shapes = ((400, 600),) * 3 if same else ((300, 600), (400, 600), (400, 600))
    huge = objects(50, diameter=(50.0, 128.0, 300.0), unit="pixels")
    plan = plan_of(cells(huge, 2, modality="GM", shapes=shapes, spacing=None, spacing_range=None))
    assert plan.long_side == (300 if same else None)
    assert plan.instances.diameter == 128
    assert plan.instances.erosion == pytest.approx(BORDER * (64 if same else 128))
