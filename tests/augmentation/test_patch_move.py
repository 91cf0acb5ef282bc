import numpy as np
import pytest

from helpers.augmentation import augmenter, only
from voxelry.augmentation.affine import Affine, AffineParams
from voxelry.augmentation.augmentation import AugmentationParams, Change
from voxelry.augmentation.elastic import Elastic, ElasticParams
from voxelry.augmentation.flip import Flip, FlipParams
from voxelry.augmentation.patch_move import PatchMove

GEOMETRY = augmenter(only(), (6, 8)).geometry
SPATIAL = {"affine": Affine(), "elastic": Elastic(), "flip": Flip()}
FIRST = ((2.0, 0.0, 1.0), (0.0, 1.0, -3.0))
SECOND = ((1.0, 0.5, 0.0), (0.0, 1.0, 2.0))


def move(*params):
    kinds = {AffineParams: "affine", ElasticParams: "elastic", FlipParams: "flip"}
    return PatchMove.of(AugmentationParams(tuple(Change(kinds[type(each)], None, each) for each in params)), SPATIAL, GEOMETRY)


def test_nothing_drawn_moves_nothing():
    still = move()
    assert not still.interpolates
    assert still.flips == ()
    assert np.array_equal(still.matrix, np.eye(2, 3))
    assert [each.tolist() for each in still.reach()] == [[0, 0], [6, 8]]


def test_maps_are_applied_from_the_last_to_the_first():
    point = np.array([3.0, 5.0])
    inner = np.array(SECOND) @ [*point, 1]
    assert np.allclose(move(AffineParams(FIRST), AffineParams(SECOND)).matrix @ [*point, 1], np.array(FIRST) @ [*inner, 1])


def test_displacements_and_margins_add_up():
    strong, weak = ElasticParams(2.0, 1), ElasticParams(0.5, 2)
    both = move(strong, weak)
    assert both.margin.tolist() == [2.5, 2.5]
    assert np.allclose(both.displacement(), move(strong).displacement() + move(weak).displacement())
    assert [each.tolist() for each in both.reach()] == [[-3, -3], [12, 14]]


@pytest.mark.parametrize(("flips", "axes"), [([(0,)], (0,)), ([(0, 1), (1,)], (0,)), ([(1,), (0,)], (0, 1))])
def test_an_axis_mirrored_twice_is_not(flips, axes):
    assert move(*map(FlipParams, flips)).flips == axes
