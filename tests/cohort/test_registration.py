"""Registration: known transforms of phantoms are found."""

import numpy as np
import pytest
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from voxelry.cohort.registration import Registration, register
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.volume import Volume
from voxelry.errors import GeometryError
from voxelry.phantom import make_phantom, small_phantom

AIR = -1000.0


def moved(volume: Volume, matrix: np.ndarray, seed: int) -> Volume:
    """The same patient after a transform of points, with noise of its own."""
    affine = volume.geometry.affine
    voxels = np.linalg.inv(affine) @ np.linalg.inv(matrix) @ affine
    array = affine_transform(volume.array[0].astype(float), voxels[:3, :3], voxels[:3, 3], order=1, cval=AIR)
    noise = np.random.default_rng(seed).normal(0, 15, array.shape)
    return Volume((array + noise)[None].astype(np.int16), volume.geometry, 1, "CT")


def transform(volume: Volume, seed: int, stretch: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """A rotation of up to 8 degrees about each axis through the middle, and a shift of up to 25 mm along each."""
    random = np.random.default_rng(seed)
    middle = volume.geometry.world(np.array(volume.geometry.shape) / 2)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", random.uniform(-8, 8, 3), degrees=True).as_matrix() @ np.diag(stretch)
    matrix[:3, 3] = random.uniform(-25, 25, 3) + middle - matrix[:3, :3] @ middle
    return matrix


def error_inside(volume: Volume, labels: np.ndarray, registration: Registration, matrix: np.ndarray) -> float:
    """The largest error in mm over the voxels of the organs."""
    points = np.argwhere(labels) @ volume.geometry.affine[:3, :3].T + volume.geometry.affine[:3, 3]
    return float(np.linalg.norm(registration.apply(points) - (points @ matrix[:3, :3].T + matrix[:3, 3]), axis=1).max())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_rigid_motion_is_found_within_half_a_millimetre_and_half_a_degree(seed: int) -> None:
    phantom = make_phantom("torso-ct", seed)
    matrix = transform(phantom.volume, seed)
    registration = register(phantom.volume, moved(phantom.volume, matrix, seed))
    difference = Rotation.from_matrix(np.linalg.inv(matrix[:3, :3]) @ registration.matrix[:3, :3])
    assert error_inside(phantom.volume, phantom.labels.array, registration, matrix) < 0.5
    assert np.degrees(difference.magnitude()) < 0.5
    assert registration.similarity > registration.before
    assert registration.volume_ratio == pytest.approx(1)
    assert registration.rotation_degrees == pytest.approx(np.degrees(Rotation.from_matrix(matrix[:3, :3]).magnitude()), abs=0.5)


@pytest.mark.slow
def test_a_stretched_patient_is_found_by_an_affine_transform() -> None:
    phantom = make_phantom("torso-ct", 3)
    matrix = transform(phantom.volume, 3, stretch=(1.05, 0.97, 1.03))
    other = moved(phantom.volume, matrix, 3)
    rigid, affine = (register(phantom.volume, other, kind) for kind in ("rigid", "affine"))
    labels = phantom.labels.array
    assert error_inside(phantom.volume, labels, affine, matrix) < 2.0  # half a voxel
    assert error_inside(phantom.volume, labels, affine, matrix) < error_inside(phantom.volume, labels, rigid, matrix)
    assert affine.volume_ratio == pytest.approx(1.05 * 0.97 * 1.03, abs=0.02)


def test_another_memory_order_of_the_same_scan_needs_no_transform() -> None:
    volume = small_phantom().volume
    other = volume.reindexed(Reindex((2, 0, 1), (True, False, True)))
    registration = register(volume, other)
    assert np.abs(registration.matrix - np.eye(4))[:3, :3].max() < 0.005
    assert np.abs(registration.matrix[:3, 3]).max() < 0.5


def test_what_cannot_be_aligned_is_refused() -> None:
    volume = small_phantom().volume
    flat = Volume(np.zeros((1, 8, 8, 8), np.int16), Geometry.from_spacing((8, 8, 8), (1, 1, 1)), 1, "CT")
    with pytest.raises(GeometryError, match="every voxel has one value"):
        register(volume, flat)
    with pytest.raises(GeometryError, match="picture"):
        register(small_phantom("chest-xray").volume, volume)
