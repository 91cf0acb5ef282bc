"""Charts: the numbers drawn are those of the data."""

import io
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from voxelry import plot
from voxelry.cohort.comparison import Difference
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import CorruptFileError, MissingFileError, UsageError
from voxelry.metrics.scores import Scores

COUNTS = np.array([[[90, 10], [0, 20]], [[90, 0], [5, 5]], [[100, 0], [0, 0]]])
"""Dice 0.8, 2/3, and none."""


def drawn(figure) -> None:
    figure.savefig(io.BytesIO(), format="svg")


def points(ax) -> list[np.ndarray]:
    return [np.sort(line.get_ydata()) for line in ax.lines if line.get_marker() == "o"]


def test_scores_are_a_point_each_and_a_median():
    figure = plot.scores(Scores(("a", "b", "c"), ("$liver",), COUNTS))
    drawn(figure)
    [ax] = figure.axes
    assert_allclose(points(ax)[0], [2 / 3, 0.8])
    medians = [line for line in ax.lines if len(line.get_xdata()) == 2 and np.ptp(line.get_ydata()) == 0]
    assert any(line.get_ydata()[0] == pytest.approx((0.8 + 2 / 3) / 2) for line in medians)
    assert [text.get_text() for text in ax.get_xticklabels()] == [r"\$liver"]


def test_cases_of_training_are_left_out():
    figure = plot.scores(Scores(("a", "b"), ("liver",), COUNTS[:2], splits=("train", "val")), metric="iou")
    assert_allclose(points(figure.axes[0])[0], [0.5])


def test_volumes_are_in_ml_and_absent_labels_left_out():
    grid = Geometry.from_spacing((10, 10, 10), (2, 2, 2.5))
    table = LabelTable(labels=(Label(value=1, name="liver"), Label(value=2, name="cyst")))
    small, large = np.zeros(grid.shape, np.uint8), np.ones(grid.shape, np.uint8)
    small[:5, :2] = 1
    figure = plot.volumes([LabelMap.of(array, grid, table) for array in (small, large)])
    drawn(figure)
    assert_allclose(points(figure.axes[0])[0], [1, 10])
    assert len(points(figure.axes[0])[1]) == 0
    flat = LabelMap.of(large[0], Geometry((10, 10), None, None), table)
    assert plot.volumes(flat).axes[0].get_ylabel() == "size (pixels)"
    with pytest.raises(UsageError, match="ml, pixels"):
        plot.volumes([flat, LabelMap.of(small, grid, table)])


def test_bland_altman_by_its_formula():
    rng = np.random.default_rng(0)
    a = rng.uniform(10, 50, 40)
    b = a + 2 + rng.normal(size=40)
    b[3] = np.nan
    figure = plot.bland_altman(a, b)
    drawn(figure)
    [ax] = figure.axes
    d = np.delete(b - a, 3)
    lines = {line.get_label(): line.get_ydata()[0] for line in ax.lines[1:]}
    sd = np.sqrt(((d - d.mean()) ** 2).sum() / (len(d) - 1))
    assert_allclose(
        [lines["bias"], lines["lower limit"], lines["upper limit"]], d.mean() + sd * np.array([0, -1.96, 1.96]), atol=1e-4
    )
    assert len(ax.lines[0].get_xdata()) == 39
    with pytest.raises(UsageError, match="1 pairs"):
        plot.bland_altman([1, np.nan], [1, 2])
    with pytest.raises(UsageError, match="shapes"):
        plot.bland_altman([1, 2], [1, 2, 3])


def test_a_comparison_shows_intervals_and_what_is_significant():
    rows = [
        Difference("dice", "liver", 0.9, 0.8, -0.1, -0.2, -0.05, 0.01, 0.02, n=9, missing=0, winner="A"),
        Difference("dice", "cyst", 0.5, 0.6, 0.1, -0.2, 0.3, 0.4, 0.4, n=9, missing=0, winner="neither"),
        Difference("iou", "liver", 0.9, 0.8, -0.3, -0.4, -0.2, 0.01, 0.02, n=9, missing=0, winner="A"),
    ]
    figure = plot.compare(rows, names=("old", "new"))
    drawn(figure)
    [ax] = figure.axes
    markers = [line for line in ax.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_markerfacecolor() == "white") for line in markers] == [(-0.1, False), (0.1, True)]
    assert [list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2][1:] == [[-0.2, -0.05], [-0.2, 0.3]]
    assert ax.get_xlabel() == "dice: new - old"
    with pytest.raises(UsageError, match="dice"):
        plot.compare(rows, metric="dic")


def test_learning_reads_every_network_of_a_run(tmp_path):
    for fold, dice in (("fold_0", 0.4), ("fold_1", 0.6)):
        (tmp_path / fold).mkdir()
        lines = [{"step": 5, "loss": 1.0, "pseudo_dice": None}, {"step": 9, "loss": 0.5, "pseudo_dice": dice}]
        (tmp_path / fold / "history.jsonl").write_text("\n".join(map(json.dumps, lines)))
    figure = plot.learning(tmp_path)
    drawn(figure)
    loss, dice = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[1.0, 0.5], [1.0, 0.5]]
    assert [list(line.get_ydata()) for line in dice.lines] == [[0.4], [0.6]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fold_0", "fold_1"]
    with pytest.raises(MissingFileError, match="no history"):
        plot.learning(tmp_path / "nothing")
    (tmp_path / "fold_0" / "history.jsonl").write_text("{")
    with pytest.raises(CorruptFileError, match="history"):
        plot.learning(tmp_path)
