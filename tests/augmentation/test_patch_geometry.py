import pytest

from helpers.augmentation import plan_of
from voxelry.augmentation.patch_geometry import PatchGeometry


@pytest.mark.parametrize(
    ("patch", "changes", "plane", "degrees"),
    [
        ((40, 56, 40), {}, (0, 1, 2), 30),
        ((40, 56, 40), {"spacing": (2.0, 1.0, 1.0)}, (0, 1, 2), 30),
        ((12, 56, 40), {"spacing": (5.0, 1.0, 1.0)}, (1, 2), 180),  # nnU-Net's rule: more than 3 times as long as across
        ((56, 40, 12), {"spacing": (1.0, 1.0, 5.0)}, (0, 1), 180),
        ((40, 56, 40), {"coarse_axis": 0}, (1, 2), 180),
        ((40, 56, 1), {"slice_axis": 2}, (0, 1), 180),
        ((64, 96, 1), {"slice_axis": 2}, (0, 1), 180),
        ((64, 97, 1), {"slice_axis": 2}, (0, 1), 15),
        ((64, 64), {}, (0, 1), 180),
        ((64, 100), {}, (0, 1), 15),
    ],
)
def test_planes_and_angles_by_the_recipe(patch, changes, plane, degrees):
    geometry = PatchGeometry.of(plan_of(patch, **changes))
    assert (geometry.plane, geometry.degrees) == (plane, degrees)
