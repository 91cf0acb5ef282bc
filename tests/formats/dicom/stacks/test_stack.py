"""From planes to a grid: any tilt of any oblique stack lands where its headers say, and what is no stack is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.bad_series import turned
from voxelry.errors import SeriesError, SpacingError
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.planes import read_planes
from voxelry.formats.dicom.stacks.positions import SLICE_TOLERANCE_MM, SMALLEST_TILT, position_tolerance_mm
from voxelry.formats.dicom.stacks.stack import MOST_GROWTH, assemble, decode_stack
from voxelry.formats.read_options import ReadOptions

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
EXACT_MM = 1e-3
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
SPACINGS = st.floats(0.2, 5)


@pytest.fixture
def header(tmp_path, plain, save_slice) -> DicomHeader:
    """A plane of 6 rows and 8 columns, to be moved."""
    return read_planes(save_slice(plain[0], tmp_path / "0.dcm"))[0]


def planes(
    header: DicomHeader, orientation, heights, shifts=None, spacing=(0.7, 0.9), origin=(-30.0, 20.0, -100.0)
) -> list[DicomHeader]:
    """Planes at heights along their normal, each shifted along rows and columns, mm."""
    along, down = np.array(orientation).reshape(2, 3)
    shifts = np.zeros((len(heights), 2)) if shifts is None else shifts
    places = [
        np.array(origin) + height * np.cross(along, down) + aside @ np.array([along, down])
        for height, aside in zip(heights, np.asarray(shifts), strict=True)
    ]
    return [
        replace(
            header,
            path=Path(f"{index:03d}.dcm"),
            sop_instance=f"1.{index}",
            orientation=tuple(orientation),
            position=tuple(place.tolist()),
            pixel_spacing=tuple(spacing),
        )
        for index, place in enumerate(places)
    ]


def world(plane: DicomHeader, column: float, row: float) -> np.ndarray:
    """RAS+ mm of a pixel by PS3.3 C.7.6.2.1.1."""
    along, down = np.array(plane.orientation).reshape(2, 3)
    between_rows, between_columns = plane.pixel_spacing
    return (np.array(plane.position) + along * between_columns * column + down * between_rows * row) * (-1, -1, 1)


def slopes(angle: float, turn: float) -> np.ndarray:
    """Shift along rows and columns for a mm of height."""
    return np.tan(np.radians(angle)) * np.array([np.cos(turn), np.sin(turn)])


@QUICK
@given(
    angles=ANGLES,
    tilt=st.floats(-59, 59),
    turn=st.floats(0, 6.3),
    rows=SPACINGS,
    columns=SPACINGS,
    step=st.floats(0.3, 10),
    count=st.integers(2, 40),
    order=st.randoms(use_true_random=False),
)
def test_every_voxel_lies_where_its_plane_says(header, angles, tilt, turn, rows, columns, step, count, order):
    heights = np.arange(count) * step
    made = planes(header, turned(*angles), heights, heights[:, None] * slopes(tilt, turn), (rows, columns))
    shuffled = list(made)
    order.shuffle(shuffled)
    stack = assemble(shuffled, "here")
    shift = abs(np.tan(np.radians(tilt))) * heights[-1]
    unsure = count == 2 or abs(np.tan(np.radians(tilt))) <= SMALLEST_TILT  # rounding explains it
    within = position_tolerance_mm(step) + EXACT_MM if unsure else EXACT_MM
    assert bool(stack.tilt) == (shift > (position_tolerance_mm(step) if unsure else EXACT_MM))
    assert abs(stack.tilt) == pytest.approx(abs(tilt) if stack.tilt else 0, abs=1e-5)
    assert [plane.sop_instance for plane in stack.slices] == [plane.sop_instance for plane in made]
    for level, plane in enumerate(made):
        for column, row in ((0, 0), (7, 0), (0, 5), (7, 5)):
            np.testing.assert_allclose(stack.geometry.world((column, row, level)), world(plane, column, row), atol=within)
    assert stack.geometry.is_orthogonal or stack.tilt
    assert any("tilt of" in remark for remark in stack.remarks) == bool(stack.tilt)


@QUICK
@given(
    angles=ANGLES,
    tilt=st.sampled_from([0.0, 0.0, 3.0, -21.0]),
    step=st.floats(0.5, 5),
    count=st.integers(5, 40),
    size=st.sampled_from([0.005, 0.02, 0.028]),
    seed=st.integers(0, 2**16),
)
def test_the_grid_is_the_best_fit_to_jittered_planes(header, angles, tilt, step, count, size, seed):
    """Against least squares of all coordinates at once; an upright stack has no slope, but the mean displacement."""
    jitter = np.random.default_rng(seed).uniform(-size, size, (count, 3))
    jitter[0, 1:] = size  # the first slice is where a grid without a fit would begin
    heights = np.arange(count) * step
    made = planes(header, turned(*angles), heights + jitter[:, 0], heights[:, None] * slopes(tilt, 0.7) + jitter[:, 1:])
    stack = assemble(made, "here")
    positions = np.array([world(plane, 0, 0) for plane in made])
    off = stack.geometry.world(np.arange(count)[:, None] * [0, 0, 1]) - positions
    assert np.linalg.norm(off, axis=1).max() <= SLICE_TOLERANCE_MM
    assert not any("from their positions" in remark for remark in stack.remarks)
    design = np.column_stack([np.ones(count), heights])
    if not stack.tilt:
        along, down = np.array(turned(*angles)).reshape(2, 3) * (-1, -1, 1)
        across = np.column_stack([off @ along, off @ down])
        np.testing.assert_allclose(across.mean(axis=0), 0, atol=1e-9)
    else:
        best = positions - design @ np.linalg.lstsq(design, positions, rcond=None)[0]
        assert np.sqrt((off**2).mean()) <= np.sqrt((best**2).mean()) + 1e-4


def test_slices_off_along_and_across_are_remarked_on(header):
    heights, shifts = np.arange(6) * 3.0, np.zeros((6, 2))
    heights[2], shifts[2] = heights[2] + 0.06, (0, 0.06)
    assert (
        "slices lie up to 0.07 mm from their positions on the grid"
        in assemble(planes(header, turned(10, 20, 30), heights, shifts), "here").remarks
    )
    shifts[2] = 0, 0.09
    with pytest.raises(SpacingError, match="slices shift sideways unevenly"):
        assemble(planes(header, turned(10, 20, 30), heights, shifts), "here")


@QUICK
@given(
    angles=ANGLES,
    tilt=st.floats(-40, 40),
    turn=st.floats(0, 6.3),
    rows=st.floats(0.5, 2),
    columns=st.floats(0.5, 2),
    step=st.floats(1, 5),
    count=st.integers(4, 8),
    hole=st.integers(0, 3),
)
def test_a_repaired_scan_keeps_a_linear_function_of_the_position(header, angles, tilt, turn, rows, columns, step, count, hole):
    heights = np.arange(count) * step
    made = planes(header, turned(*angles), heights, heights[:, None] * slopes(tilt, turn), (rows, columns))
    if hole and hole < count - 1:
        del made[hole]
    stack = assemble(made, "here", ReadOptions(repair=("gap", "tilt")))
    gradient = np.array([1.1, -1.7, 2.3])
    values = decode_stack(stack, lambda some: linear(some, gradient)).transpose(2, 1, 0)
    index = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1)
    expected = stack.geometry.world(index) @ gradient
    scan = values != values.min()
    assert values.shape == stack.geometry.shape
    assert stack.geometry.is_orthogonal
    assert np.count_nonzero(scan) >= count * 5 * 7 - 8
    np.testing.assert_allclose(values[scan], expected[scan], atol=1e-2)
    assert (len(stack.repairs) > 0) == (len(made) < count or bool(stack.tilt))


def linear(some, gradient) -> np.ndarray:
    """``(planes, rows, columns)`` float32: a linear function of the position."""
    blocks = [
        [[world(plane, column, row) @ gradient for column in range(plane.columns)] for row in range(plane.rows)] for plane in some
    ]
    return np.array(blocks, dtype=np.float32)


def axial(header, heights, shifts=None):
    return planes(header, (1, 0, 0, 0, 1, 0), heights, shifts)


def test_a_plain_stack_has_nothing_to_say(header):
    stack = assemble(axial(header, [0, 2, 4]), "here")
    assert (stack.tilt, stack.remarks, stack.repairs, stack.resampling) == (0, (), (), None)
    assert stack.slices == stack.planes


def test_orientations_that_jitter_are_one(header):
    made = [
        replace(plane, orientation=(1.0, jitter, 0.0, 0.0, 1.0, -jitter))
        for plane, jitter in zip(axial(header, [0, 2, 4]), (2e-6, -2e-6, 0.0), strict=True)
    ]
    np.testing.assert_allclose(assemble(made, "here").geometry.affine[:3, :3], np.diag([-0.9, -0.7, 2]), atol=1e-9)


def test_two_slices_that_shift_are_said_to_be_unsure(header):
    stack = assemble(axial(header, [0, 5], [[0, 0], [0, 1]]), "here")
    assert stack.tilt == pytest.approx(np.degrees(np.arctan(0.2)))
    assert "two slices alone do not distinguish" in stack.remarks[0]


@pytest.mark.parametrize(("stated", "said"), [(2.0, False), (-2.0, False), (4.0, True), (None, False), (0.0, False)])
def test_a_spacing_tag_that_contradicts_is_remarked(header, stated, said):
    made = [replace(plane, spacing_between=stated) for plane in axial(header, [0, 2, 4])]
    stack = assemble(made, "here")
    assert stack.geometry.spacing[2] == pytest.approx(2)
    assert any("SpacingBetweenSlices" in remark for remark in stack.remarks) == said


@pytest.mark.parametrize(("stated", "said"), [(None, False), (-15.0, False), (15.2, False), (0.0, True), (30.0, True)])
def test_a_tilt_tag_that_contradicts_is_remarked(header, stated, said):
    shifts = np.arange(4)[:, None] * 2.0 * slopes(15, 1.5708)
    made = [replace(plane, gantry_tilt=stated) for plane in axial(header, np.arange(4) * 2.0, shifts)]
    stack = assemble(made, "here")
    assert stack.tilt == pytest.approx(15)
    assert any("GantryDetectorTilt states" in remark for remark in stack.remarks) == said


def test_a_slice_shifted_sideways_is_named_and_moved_back_on_request(header):
    made = axial(header, np.arange(6) * 2.0, [[0, 0], [0, 0], [0, 0], [1.8, 1.4], [0, 0], [0, 0]])
    with pytest.raises(SpacingError, match="sideways unevenly") as caught:
        assemble(made, "here")
    assert caught.value.files == ("003.dcm",)
    stack = assemble(made, "here", ReadOptions(repair=("tilt",)))
    assert stack.geometry.shape == (10, 8, 6)
    assert stack.slices == (None,) * 6
    values = decode_stack(stack, lambda some: np.array([np.full((6, 8), int(p.path.stem), np.int16) for p in some]))
    assert (values[3, 2:, 2:] == 3).all()
    assert (values[3, :2] == 0).all()
    assert (values[2, :6, :8] == 2).all()


def test_an_upright_grid_is_bounded(header):
    made = axial(header, [0, 3e6], [[0, 0], [0, 3e6]])
    assert assemble(made, "here").tilt == pytest.approx(45)
    with pytest.raises(SeriesError, match=f"more than {MOST_GROWTH} times"):
        assemble(made, "here", ReadOptions(repair=("tilt",)))


def test_a_position_far_away_is_not_filled_up(header):
    made = axial(header, [0, 1, 2, 3, 1e7])
    for repair in ((), ("gap",), ("spacing",), ("gap", "spacing", "tilt", "duplicates")):
        with pytest.raises(SeriesError, match=r"004\.dcm"):
            assemble(made, "here", ReadOptions(repair=repair))
