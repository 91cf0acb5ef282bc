import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.panel import panels_of
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GridMismatchError
from voxelry.reports.overlay import overlay_png

RED, BLUE = (255, 0, 0), (0, 0, 255)
TABLE = LabelTable(labels=(Label(value=1, name="liver", color=RED), Label(value=7, name="spleen", color=BLUE)), ignore=9)
GRID = Geometry.from_spacing((20, 16, 12), (1, 1.5, 3))
ORDERS = [
    Reindex(order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]  # fmt: skip


def body(modality: str = "MR") -> Volume:
    """A grey block, brighter to the right, to the front and to the head."""
    x, y, z = np.meshgrid(*map(np.arange, GRID.shape), indexing="ij")
    return Volume((x * 8 + y * 4 + z * 2).astype(np.int16)[None], GRID, modality=modality)


def organs() -> LabelMap:
    """In RAS: a liver to the right (high x) and in front, a spleen to the left (low x) and behind."""
    array = np.zeros(GRID.shape, np.uint8)
    array[13:18, 9:14, 5:9] = 1
    array[2:6, 2:6, 7:10] = 7
    return LabelMap.of(array, GRID, TABLE)


def picture() -> tuple[Volume, LabelMap]:
    grid = Geometry((40, 30), None, (0.2, 0.1))
    array = np.zeros((40, 30), np.uint8)
    array[5:15, 5:20] = 1
    return Volume(np.arange(1200, dtype=np.uint8).reshape(1, 40, 30), grid, modality="DX"), LabelMap.of(array, grid, TABLE)


def where(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[float, float]:
    """The mean (column, row) of pixels of a label's border colour, as fractions of the picture."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=-1))
    return columns.mean() / picture.width, rows.mean() / picture.height


# ---- radiological convention


@pytest.mark.parametrize("change", ORDERS[::7])
def test_planes_are_radiological_whatever_the_memory_order(change):
    volume, labels = body().reindexed(change), organs().on_grid(GRID.reindexed(change))
    panels = {panel.caption.split()[0]: panel for panel in panels_of(volume, labels, None)}
    expected = {panel.caption.split()[0]: panel for panel in panels_of(body(), organs(), None)}
    assert list(panels) == ["axial", "coronal", "sagittal"]
    for name, panel in panels.items():
        assert_array_equal(panel.grey, expected[name].grey)
        assert_array_equal(panel.layers, expected[name].layers)
        assert panel.spacing == pytest.approx(expected[name].spacing)


def test_right_is_left_and_front_is_up():
    axial, coronal, sagittal = panels_of(body(), organs(), None)
    assert (axial.letters, coronal.letters, sagittal.letters) == ("RLAP", "RLSI", "APSI")
    # brighter to the right, front and head: each plane darkens from its left to its right and from top to bottom
    for panel in (axial, coronal, sagittal):
        assert (np.diff(panel.grey, axis=0) <= 0).all()
        assert (np.diff(panel.grey, axis=1) <= 0).all()
    drawn = axial.draw(TABLE, (400, 360))
    liver, spleen = where(drawn, RED), where(drawn, BLUE)
    assert liver[0] < 0.5 < spleen[0]
    assert liver[1] < 0.5 < spleen[1]


def test_planes_pass_through_the_slice_with_most_labelled_voxels():
    axial, coronal, sagittal = panels_of(body(), organs(), None)
    area = organs().array > 0
    for panel, axis, flipped in ((axial, 2, 12), (coronal, 1, 16), (sagittal, 0, 20)):
        shown = flipped - int(panel.caption.split()[1])
        brute = [int(np.take(area, index, axis).sum()) for index in range(flipped)]
        assert brute[shown] == max(brute)
        assert (panel.layers > 0).sum() == max(brute)


def test_true_aspect_ratio():
    axial, coronal, _ = panels_of(body(), organs(), None)
    assert axial.draw(TABLE, (4000, 400)).size == (round(400 * 20 / 24), 400)
    assert coronal.draw(TABLE, (200, 4000)).size == (200, round(200 * 36 / 20))
    assert panels_of(*picture(), None)[0].draw(TABLE, (9999, 800)).size == (round(800 * 3 / 8), 800)


# ---- what is drawn


def test_labels_are_filled_half_through_with_a_solid_border():
    volume, labels = picture()
    drawn = np.asarray(panels_of(volume, labels, None)[1].draw(TABLE, (300, 800)), dtype=int)
    plain = np.asarray(panels_of(volume, labels, None)[0].draw(TABLE, (300, 800)), dtype=int)
    inside = (slice(120, 280), slice(70, 180))
    assert (drawn[inside][..., 0] > plain[inside][..., 0] * 0.6 + 80).all()
    assert np.abs(drawn[inside][..., 1] - plain[inside][..., 1] * 0.65).max() <= 1
    assert (drawn[100, 60:190] == RED).all()
    assert_array_equal(drawn[400:], plain[400:])


def test_the_reference_is_a_dashed_line_and_its_ignored_voxels_are_not_drawn():
    volume, labels = picture()
    nothing = LabelMap.of(np.zeros((40, 30), np.uint8), volume.geometry, TABLE)
    truth = labels.array.copy()
    truth[30:, :] = 9
    with_truth = panels_of(volume, nothing, LabelMap.of(truth, volume.geometry, TABLE))[1].draw(TABLE, (300, 800))
    without = panels_of(volume, nothing, None)[1].draw(TABLE, (300, 800))
    changed = (np.asarray(with_truth) != np.asarray(without)).any(axis=-1)
    line = np.asarray(with_truth)[100, 51:199]
    assert {tuple(pixel) for pixel in line.tolist()} == {(255, 255, 255), (0, 0, 0)}
    assert not changed[110:290, 60:190].any()
    assert not changed[320:].any()


def test_labels_that_overlap_are_both_drawn():
    volume, _ = picture()
    layers = np.zeros((2, 40, 30), np.uint8)
    layers[0, 5:25, 5:25] = 1
    layers[1, 10:20, 10:20] = 1
    table = LabelTable(
        labels=(Label(value=1, name="lung", color=RED), Label(value=1, name="nodule", color=BLUE, layer=1))
    )  # fmt: skip
    drawn = panels_of(volume, LabelMap(layers, volume.geometry, table), None)[1].draw(table, (300, 800))
    colours = {tuple(pixel) for pixel in np.asarray(drawn).reshape(-1, 3).tolist()}
    assert {RED, BLUE} <= colours


@pytest.mark.parametrize(("modality", "low", "high"), [("CT", -160, 240), ("MR", None, None)])
def test_ct_has_a_soft_tissue_window_and_all_else_percentiles(modality, low, high):
    values = np.random.default_rng(0).normal(0, 300, (1, 20, 16, 12)).astype(np.int16)
    volume = Volume(values, GRID, modality=modality)
    if low is None:
        low, high = np.percentile(values, (0.5, 99.5))
    sagittal = panels_of(volume, organs(), None)[2]
    index = 20 - int(sagittal.caption.split()[1])
    expected = np.clip((values[0, index].astype(float) - low) / (high - low), 0, 1)[::-1, ::-1].T
    np.testing.assert_allclose(sagittal.grey, expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e6])
def test_grey_values_of_any_size_are_drawn_alike(scale):
    values = np.random.default_rng(0).normal(0, 300, (1, 20, 16, 12)).astype(np.float32)
    panels = [panels_of(Volume(array, GRID, modality="MR"), organs(), None) for array in (values, values * np.float32(scale))]
    for plain, scaled in zip(*panels, strict=True):
        np.testing.assert_allclose(scaled.grey, plain.grey, atol=1e-4)


# ---- the file


def test_a_montage_is_written_and_legible(tmp_path):
    path = overlay_png(body(), organs(), tmp_path / "deep" / "case.png", reference=organs(), title="a case")
    with Image.open(path) as montage:
        assert montage.format == "PNG"
        assert montage.height >= 360
        colours = {tuple(pixel) for pixel in np.asarray(montage).reshape(-1, 3).tolist()}
    assert {RED, BLUE, (255, 255, 255)} <= colours
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["case.png"]


def test_labels_in_another_axis_order_are_put_on_the_images_grid(tmp_path):
    stored = organs().on_grid(GRID.reindexed(ORDERS[29]))
    one = overlay_png(body(), organs(), tmp_path / "one.png")
    other = overlay_png(body(), stored, tmp_path / "other.png")
    assert one.read_bytes() == other.read_bytes()


def test_labels_on_another_grid_leave_no_file(tmp_path):
    labels = LabelMap.of(organs().array, Geometry.from_spacing(GRID.shape, (1, 1, 1)), TABLE)
    with pytest.raises(GridMismatchError):
        overlay_png(body(), labels, tmp_path / "case.png")
    assert list(tmp_path.iterdir()) == []


def test_extreme_cases_are_drawn_too(tmp_path):
    flat = Volume(np.full((1, 5, 4, 3), 7, np.int16), Geometry.from_spacing((5, 4, 3), (1, 1, 1)))
    nothing = LabelMap.of(np.zeros((5, 4, 3), np.uint8), flat.geometry, TABLE)
    overlay_png(flat, nothing, tmp_path / "constant.png", title="x" * 500)
    slice_grid = Geometry.from_spacing((30, 20, 1), (1, 1, 5))
    many = LabelTable.numbered(range(1, 600))
    slab = LabelMap.of(np.arange(600, dtype=np.uint16).reshape(30, 20, 1), slice_grid, many)
    single = Volume(np.zeros((3, 30, 20, 1), np.float32), slice_grid, channels=3)
    assert [panel.caption for panel in panels_of(single, slab, None)] == ["axial 1 of 1"]
    overlay_png(single, slab, tmp_path / "single.png")
    with Image.open(tmp_path / "single.png") as montage:
        assert montage.height < 800
    thin = Volume(np.zeros((1, 2, 900), np.uint8), Geometry((2, 900)))
    overlay_png(thin, LabelMap.of(np.ones((2, 900), np.uint8), thin.geometry, TABLE), tmp_path / "thin.png")


# ---- objects one by one


def with_ids(values: np.ndarray, ids: np.ndarray, kind: str = "thing") -> tuple[Volume, LabelMap]:
    table = LabelTable(labels=(Label(value=1, name="lesion", kind=kind, color=RED), Label(value=7, name="spleen", color=BLUE)))
    grid = Geometry(values.shape, None, (1.0, 1.0))
    labels = LabelMap(values[None], grid, table, instances=ids[None].astype(np.uint32))
    return Volume(np.zeros((1, *values.shape), np.uint8), grid, modality="DX"), labels


def three_objects() -> tuple[np.ndarray, np.ndarray]:
    """Two lesions that touch, one apart, and a spleen."""
    values, ids = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint32)
    for number, columns in ((5, slice(2, 6)), (9, slice(6, 10)), (70_000, slice(14, 18))):
        values[4:10, columns], ids[4:10, columns] = 1, number
    values[12:18, 20:28] = 7
    return values, ids


def test_objects_of_one_label_have_colours_of_their_own():
    panel = panels_of(*with_ids(*three_objects()), None)[1]
    colours = panel.colours.by_id
    assert list(colours) == [5, 9, 70_000]
    assert colours[5] == RED
    assert len({*colours.values(), BLUE}) == 4
    assert dict(panel.colours.counts) == {"lesion": 3}
    drawn = np.asarray(panel.draw(TABLE, (300, 200)))
    for number, (left, right) in ((5, (20, 60)), (9, (60, 100)), (70_000, (140, 180))):
        edge = drawn[40, left + 2 : right - 2]  # the topmost row of each object is its border
        assert (edge == colours[number]).all(), number
    assert (drawn[120, 202:278] == BLUE).all()
    assert (drawn[50:90, 59] == colours[5]).all(), "a border between objects that touch"
    assert (drawn[50:90, 60] == colours[9]).all()


def test_one_object_of_a_label_keeps_the_labels_colour():
    values, ids = three_objects()
    ids[ids > 5] = 0
    values[ids == 0] = 0
    assert panels_of(*with_ids(values, ids), None)[1].colours.by_id == {}


def test_ids_change_no_colour_by_their_value():
    values, ids = three_objects()
    more = np.where(ids > 0, ids * 2 + 1, 0)
    first, second = (panels_of(*with_ids(values, given), None)[1].draw(TABLE, (300, 200)) for given in (ids, more))
    assert_array_equal(np.asarray(first), np.asarray(second))


def test_the_reference_line_runs_between_objects_that_touch():
    volume, labels = with_ids(*three_objects())
    nothing = LabelMap.of(np.zeros((20, 30), np.uint8), labels.geometry, labels.table)
    drawn = np.asarray(panels_of(volume, nothing, labels)[1].draw(TABLE, (300, 200)), dtype=int)
    white = (drawn == 255).all(axis=-1)
    assert white[45:95, 59:61].any(axis=0).all()


def test_volumes_show_objects_on_each_plane():
    array, ids = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint32)
    array[3:7, 3:7, 3:7], ids[3:7, 3:7, 3:7] = 1, 1
    array[12:16, 3:7, 3:7], ids[12:16, 3:7, 3:7] = 1, 2
    table = LabelTable(labels=(Label(value=1, name="lesion", kind="thing", color=RED),))
    panels = panels_of(body(), LabelMap(array[None], GRID, table, instances=ids[None]), None)
    assert [sorted(np.unique(panel.ids).tolist()) for panel in panels[:2]] == [[0, 1, 2], [0, 1, 2]]
    assert all((panel.ids > 0).sum() == (panel.layers > 0).sum() for panel in panels)
