import math
import re
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.reports.curve import curve_svgs, line_svg


class Point(NamedTuple):
    step: int
    loss: float | None = None
    pseudo_dice: float | None = None


def drawn(svg: str) -> list[tuple[float, float]]:
    line = ElementTree.fromstring(svg).find("polyline")
    return [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]


def tick_labels(svg: str) -> list[float]:
    texts = [text.text for text in ElementTree.fromstring(svg).iter("text")]
    return [float(text) for text in texts if re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", text)]


def test_loss_and_pseudo_dice_are_drawn_where_measured():
    both = curve_svgs([Point(20, 1.0, 0.5), Point(0, 2.0), Point(10, 1.5)])
    assert ["Training loss" in svg for svg in both] == [True, False]
    assert [len(drawn(svg)) for svg in both] == [3, 1]
    assert [len(curve_svgs(points)) for points in ([], [Point(1)], [Point(1, 1.0)], [Point(1, None, 0.3)])] == [0, 0, 1, 1]


def test_what_is_not_finite_is_left_out():
    assert len(drawn(curve_svgs([Point(0, 1.0), Point(1, math.nan), Point(2, math.inf), Point(3, 2.0)])[0])) == 2


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(1, 10**6))
def test_every_point_lies_inside_the_axes(values, step):
    svg = line_svg("loss", [(i * step, y) for i, y in enumerate(values)])
    assert len(drawn(svg)) == len(values)
    assert all(52 - 0.1 <= x <= 440.1 and 30 - 0.1 <= y <= 182.1 for x, y in drawn(svg))


def test_higher_is_up_later_is_right_and_the_scale_is_linear():
    (x0, y0), (x1, y1), (x2, y2) = drawn(line_svg("dice", [(0, 0.0), (50, 0.5), (100, 1.0)], (0, 1)))
    assert x0 < x1 < x2
    assert y0 > y1 > y2
    assert (x1 - x0, y0 - y1) == pytest.approx((x2 - x1, y1 - y2), abs=0.11)
    assert (x0, y0, x2, y2) == (52, 182, 440, 30)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.2, 1.93), (0.001, 0.0013), (-1.2, -0.7), (0.5, 0.5), (0, 100000)])
def test_ticks_are_few_round_and_enclose_the_values(low, high):
    svg = line_svg("loss", [(0, low), (1, high)])
    ticks = tick_labels(svg)[: svg.count('class="grid"')]
    assert 3 <= len(ticks) <= 7
    assert ticks[0] <= low
    assert high <= ticks[-1]


def test_a_long_log_is_thinned_and_keeps_its_mean_and_end():
    long = drawn(line_svg("loss", [(step, 1.0 + step % 2) for step in range(10000)], (0, 4)))
    assert len(long) <= 300
    assert {y for _, y in long} == {182 - 1.5 / 4 * 152}
    assert long[-1][0] == pytest.approx(440, abs=0.1)


def test_words_are_escaped_and_tell_the_curve():
    svg = line_svg('<b> & "loss"', [(0, 2.0), (10, 0.5)])
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == '<b> & "loss": from 2 at step 0 to 0.5 at step 10'
