import numpy as np
import pytest

from voxelry.core.geometry import Geometry
from voxelry.core.label_sequence import LabelSequence, Spread
from voxelry.inference.object_parting import part_objects

ROW = LabelSequence(name="row", labels=("a", "b", "c"), volumes=(Spread(mean=1728, std=100),) * 3)
UNKNOWN = LabelSequence(name="row", labels=("a", "b", "c"))


def bodies(classes=(1, 2, 3), bridges=(), height=14):
    """Cubes of 12 voxels' edge, one above the other, some joined to the next by a bar."""
    array = np.zeros((20, 20, height * len(classes) + 4), np.uint16)
    for number, value in enumerate(classes):
        array[4:16, 4:16, 2 + height * number : 14 + height * number] = value
    for number in bridges:
        bar = array[8:12, 8:12, 12 + height * number : 18 + height * number]
        bar[bar == 0] = classes[number]
    return array


def parted(classes, row=ROW, spacing=(1.0, 1.0, 1.0)):
    return part_objects(classes, row, Geometry.from_spacing(classes.shape, spacing))


def pure(ids, reference):
    """The share of each reference body's voxels that lie in its main object, where no object is main in two."""
    mains = []
    for body in range(1, int(reference.max()) + 1):
        inside = np.bincount(ids[reference == body])
        mains.append((int(inside.argmax()), inside.max() / inside.sum()))
    return min(share for _, share in mains) if len({main for main, _ in mains}) == len(mains) else 0.0


@pytest.mark.parametrize("row", [ROW, UNKNOWN])
def test_bodies_apart_stay_as_they_are_whatever_their_labels(row):
    classes = bodies((1, 1, 3))
    classes[:, :, 6:9][classes[:, :, 6:9] > 0] = 2
    ids = parted(classes, row)
    assert ids.max() == 3
    assert pure(ids, bodies()) == 1


@pytest.mark.parametrize(("row", "bridges"), [(ROW, (0,)), (ROW, (0, 1)), (UNKNOWN, (0,)), (UNKNOWN, (1,))])
@pytest.mark.parametrize("labels", [(1, 2, 3), (1, 1, 1), (2, 2, 3)])
def test_bodies_joined_by_a_bar_are_parted(row, labels, bridges):
    ids = parted(bodies(labels, bridges), row)
    assert ids.max() == 3
    assert pure(ids, bodies()) > 0.98


def test_bodies_face_to_face_are_parted_where_the_label_changes():
    reference = bodies(height=12)
    assert pure(parted(reference), reference) == 1


def test_touching_bodies_one_of_them_painted_in_two_labels():
    classes = bodies((1, 2, 3), (0,))
    upper = classes[:, :, 23:28]
    upper[upper == 2] = 3
    ids = parted(classes)
    assert ids.max() == 3
    assert pure(ids, bodies()) > 0.98


def test_thick_slices_are_measured_in_millimetres():
    ids = parted(bodies((1, 1, 1), (0, 1))[:, :, ::2], spacing=(1.0, 1.0, 2.0))
    assert ids.max() == 3
    assert pure(ids, bodies()[:, :, ::2]) > 0.95


def test_a_picture_is_parted_too():
    flat = bodies((1, 1, 1), (0, 1))[10]
    row = ROW.model_copy(update={"volumes": (Spread(mean=36, std=3),) * 3})
    ids = part_objects(flat, row, Geometry(flat.shape, None, (0.5, 0.5)))
    assert ids.max() == 3


def test_what_cannot_be_parted_stays_whole():
    classes = np.zeros((20, 20, 40), np.uint16)
    classes[4:16, 4:16, 4:36] = 1
    assert parted(classes).max() == 1
