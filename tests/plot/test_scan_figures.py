"""Figures of scans: sides, aspect ratio, colours where the labels are, and bad input."""

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from voxelry import plot
from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GeometryError, GridMismatchError, MissingExtraError, UsageError

RED, BLUE = (255, 0, 0), (0, 0, 255)
TABLE = LabelTable(labels=(Label(value=1, name="liver $x_1$", color=RED), Label(value=7, name="_spleen", color=BLUE)))
GRID = Geometry.from_spacing((20, 16, 12), (1, 1.5, 3))
TURN = Reindex((2, 0, 1), (True, False, True))


def scan() -> tuple[Volume, LabelMap]:
    """In RAS: a liver to the right (high x), in front and above; a spleen to the left (low x), behind."""
    array = np.zeros(GRID.shape, np.uint8)
    array[13:18, 10:15, 7:10] = 1
    array[2:7, 2:5, 6:9] = 7
    return Volume(np.full((1, *GRID.shape), 50, np.int16), GRID, modality="MR"), LabelMap.of(array, GRID, TABLE)


def pixels(figure) -> np.ndarray:
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=100)
        return np.asarray(Image.open(file).convert("RGB")).astype(int)


def place(picture: np.ndarray, ax, colour: str) -> tuple[float, float]:
    """The mean place of pixels that are clearly of a colour within axes, as shares of them from their upper left corner."""
    box = ax.get_window_extent()
    height = picture.shape[0]
    part = picture[round(height - box.y1) : round(height - box.y0), round(box.x0) : round(box.x1)]
    own = "red blue".split().index(colour) * 2
    rows, columns = np.nonzero((part[..., own] > part[..., 1] + 60) & (part[..., own] > part[..., 2 - own] + 60))
    return (columns.mean() / part.shape[1], rows.mean() / part.shape[0]) if len(rows) else (np.nan, np.nan)


@pytest.mark.parametrize("draw", [plot.overlay, plot.contours])
@pytest.mark.parametrize("turned", [False, True])
def test_sides_are_radiological_whatever_the_memory_order(draw, turned):
    volume, labels = scan()
    figure = draw(volume.reindexed(TURN) if turned else volume, labels)  # labels come to the image's grid by themselves
    picture = pixels(figure)
    axial, coronal, sagittal = figure.axes
    assert [text.get_text() for text in axial.texts] == list("RLAP")
    assert [text.get_text() for text in sagittal.texts] == list("APSI")
    liver, spleen = place(picture, axial, "red"), place(picture, axial, "blue")
    assert liver[0] < 0.5 < spleen[0]
    assert liver[1] < 0.5 < spleen[1]
    assert place(picture, coronal, "red")[0] < 0.5
    assert place(picture, coronal, "red")[1] < 0.5
    assert place(picture, sagittal, "red")[0] < 0.5


def test_planes_have_their_true_aspect_ratio():
    figure = plot.overlay(*scan())
    pixels(figure)
    mm = [(20, 24), (20, 36), (24, 36)]
    boxes = [ax.get_window_extent() for ax in figure.axes]
    assert_allclose([box.width / box.height for box in boxes], [wide / tall for wide, tall in mm], rtol=0.02)


def test_outlines_run_along_voxel_sides_and_around_holes():
    grid = Geometry((10, 10), None, (2.0, 0.5))
    array = np.zeros((10, 10), np.uint8)
    array[2:7, 3:8] = 1
    array[4, 5] = 0
    figure = plot.contours(Volume(np.zeros((1, 10, 10), np.uint8), grid), LabelMap.of(array, grid, TABLE))
    lines = [np.array(line) for collection in figure.axes[1].collections for line in collection.get_segments()]
    boxes = sorted((*line.min(axis=0), *line.max(axis=0)) for line in lines)
    assert_allclose(boxes, [(1.5, 4, 4, 14), (2.5, 8, 3, 10)])


def test_a_legend_names_what_is_shown_and_the_reference():
    volume, labels = scan()
    only = replace(labels, layers=np.where(labels.layers == 1, 1, 0).astype(np.uint8))
    figure = plot.overlay(volume, only, reference=labels, title="$case_1$")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"liver \$x_1\$", "reference"]
    pixels(figure)  # nothing is taken for a formula


def test_montage_spreads_over_labelled_slices():
    volume, labels = scan()  # labelled: slices 6..9 from the feet, 2..5 from the head
    shown = [ax.get_title() for ax in plot.montage(volume, labels, slices=4).axes]
    assert shown == [f"axial {k} of 12" for k in (3, 4, 5, 6)]
    assert len(plot.montage(volume, labels, slices=40).axes) == 4
    assert [ax.get_title() for ax in plot.montage(volume, plane="sagittal", slices=[0, 19]).axes] == [
        "sagittal 1 of 20", "sagittal 20 of 20",
    ]  # fmt: skip


def test_slices_are_counted_from_the_right():
    volume, labels = scan()
    figure = plot.overlay(volume, labels, plane="sagittal", index=4)
    picture = pixels(figure)
    assert place(picture, figure.axes[0], "red")[0] < 0.5
    assert np.isnan(place(picture, figure.axes[0], "blue")[0])


def test_objects_have_numbers_colours_and_sizes():
    volume, labels = scan()
    ids = np.zeros(labels.layers.shape, np.uint32)
    ids[0, 13:15, 10:15, 7:10], ids[0, 15:18, 10:15, 7:10] = 3, 8
    things = LabelTable(labels=(Label(value=1, name="liver", color=RED, kind="thing"), TABLE.labels[1]))
    figure = plot.instances(volume, replace(labels, instances=ids, table=things))
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["R", "L", "A", "P", "3", "8"]
    numbers = {text.get_text(): text.get_position()[0] for text in left.texts[4:]}
    assert numbers == {"3": pytest.approx(6), "8": pytest.approx(3.5)}
    assert_allclose(sorted(right.lines[0].get_xdata()), [30 * 4.5 / 1000, 45 * 4.5 / 1000])
    assert right.get_yticklabels()[0].get_text() == "liver (2)"


def test_objects_without_ids_are_components_and_the_figure_says_so():
    left, right = plot.instances(*scan()).axes
    assert [text.get_text() for text in left.texts[4:]] == ["1", "2"]
    assert "connected components" in right.get_title().replace("\n", " ")


def test_what_does_not_fit_is_refused(monkeypatch):
    volume, labels = scan()
    other = LabelMap.of(np.zeros((4, 4, 4), np.uint8), Geometry.from_spacing((4, 4, 4), (1, 1, 1)), TABLE)
    flat = Volume(np.zeros((1, 4, 4), np.uint8), Geometry((4, 4), None, None))
    with pytest.raises(GridMismatchError):
        plot.overlay(volume, other)
    with pytest.raises(UsageError, match="coronal"):
        plot.overlay(volume, labels, plane="corona")
    with pytest.raises(UsageError, match="slice 12 of 12"):
        plot.overlay(volume, labels, plane="axial", index=12)
    with pytest.raises(UsageError, match="of no plane"):
        plot.contours(volume, labels, index=1)
    with pytest.raises(UsageError, match="0 slices"):
        plot.montage(volume, labels, slices=0)
    with pytest.raises(GeometryError, match="no slices"):
        plot.montage(flat)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"voxelry\[plot\]"):
        plot.overlay(volume, labels)
