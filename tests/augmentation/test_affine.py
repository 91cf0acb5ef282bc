import numpy as np
import pytest

from voxelry.augmentation.affine import affine_matrix
from voxelry.augmentation.patch_geometry import PatchGeometry


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 2.0, 0.5)])
def test_a_turn_keeps_distances_in_mm(spacing):
    geometry = PatchGeometry((20, 20, 20), spacing, 1, (0, 1, 2), 30)
    matrix = np.array(affine_matrix(geometry, np.array([0.3, -0.2, 0.5]), 1.0, np.zeros(3)))
    size = np.diag(spacing)
    turn = size @ matrix[:, :3] @ np.linalg.inv(size)
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.isclose(np.linalg.det(turn), 1)
    centre = np.full(3, 9.5)
    assert np.allclose(matrix[:, :3] @ centre + matrix[:, 3], centre)


def test_zoom_and_shift():
    geometry = PatchGeometry((20, 30), (1.0, 1.0), 1, (0, 1), 30)
    matrix = np.array(affine_matrix(geometry, np.zeros(1), 2.0, np.array([3.0, -1.0])))
    place = matrix[:, :2] @ np.array([12.5, 13.5]) + matrix[:, 2]  # 3 down and 1 left of the centre: where the centre went
    assert np.allclose(place, [9.5, 14.5])
    assert np.allclose(matrix[:, :2], np.eye(2) / 2)
