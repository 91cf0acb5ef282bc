"""Dated phantoms: what is told of them is what their voxels hold."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from voxelry.errors import UsageError
from voxelry.phantom import coarse_acquisition, dated_phantoms
from voxelry.phantom.torso import ACQUISITION, TABLE

COARSE = coarse_acquisition("torso-ct")


@pytest.fixture(scope="module")
def patient():
    return dated_phantoms(5, dates=3, acquisition=COARSE)


def test_lesions_lie_where_their_courses_say(patient):
    examinations, courses = patient
    assert len({course.fate for course in courses}) >= 5
    for date, each in enumerate(examinations):
        labels = each.phantom.labels
        ids = labels.instances[0]
        assert ((ids > 0) == (labels.array == TABLE["liver_lesion"].value)).all()
        assert set(np.unique(ids).tolist()) - {0} == set(each.courses)
        places = labels.geometry.world(np.argwhere(ids).astype(float))
        own = np.array([each.courses[id] for id in ids[ids > 0].tolist()])
        for number in set(own.tolist()):
            centres = np.array([centre for centre, _ in courses[number].balls[date]])
            moved = centres @ each.matrix[:3, :3].T + each.matrix[:3, 3]
            radius = max(radius for _, radius in courses[number].balls[date])
            distance = np.linalg.norm(places[own == number][:, None] - moved, axis=2).min(axis=1)
            assert distance.max() < radius + 3  # ellipsoids, and the warp of the anatomy


def test_fates_show_in_the_volumes():
    examinations, courses = dated_phantoms(1, dates=2, acquisition=replace(ACQUISITION, spacing=(6.0, 6.0, 7.5)))
    fates = {course.fate: number for number, course in enumerate(courses)}
    volumes = [
        {number: sum(int((each.phantom.labels.instances[0] == id).sum()) for id, own in each.courses.items() if own == number)
         for number in range(len(courses))} for each in examinations
    ]  # fmt: skip
    before, after = ({fate: volume[number] for fate, number in fates.items()} for volume in volumes)
    assert after["grow"] > 1.5 * before["grow"]
    assert after["shrink"] < 0.6 * before["shrink"]
    assert after["stay"] == pytest.approx(before["stay"], rel=0.2)
    assert before["come"] == after["vanish"] == 0 < min(before["vanish"], after["come"])
    pieces = [[list(each.courses.values()).count(fates[fate]) for each in examinations] for fate in ("split", "merge")]
    assert pieces == [[1, 2], [2, 1]]


def test_the_patient_moves_rigidly_and_the_first_date_is_at_rest(patient):
    examinations, _ = patient
    assert (examinations[0].matrix == np.eye(4)).all()
    for each in examinations[1:]:
        turn = Rotation.from_matrix(each.matrix[:3, :3])
        assert 0 < np.degrees(turn.magnitude()) < 15
        assert np.abs(each.matrix[:3, 3]).max() <= 25


def test_the_same_seed_gives_the_same_bytes_and_another_another_patient(patient):
    again = dated_phantoms(5, dates=3, acquisition=COARSE)[0][1].phantom
    other = dated_phantoms(6, dates=2, acquisition=COARSE)[0][1].phantom
    mine = patient[0][1].phantom
    assert (again.volume.array == mine.volume.array).all()
    assert (again.labels.instances == mine.labels.instances).all()
    assert (other.volume.array != mine.volume.array).any()


@pytest.mark.parametrize(("seed", "dates"), [(-1, 2), (0, 0)])
def test_what_makes_no_patient(seed, dates):
    with pytest.raises(UsageError, match="seed"):
        dated_phantoms(seed, dates)
