"""The scale of a scan's objects: that of discs and balls of a known radius, in the unit of their spacing."""

import numpy as np
import pytest

from voxelry.inference.object_scale import median_diameter
from voxelry.inference.ring_buffer import levels_of


def ball(shape, spacing, radius):
    """Quantised distance, divided by the radius."""
    places = np.meshgrid(*((np.arange(size) - size / 2) * step for size, step in zip(shape, spacing, strict=True)), indexing="ij")
    depth = 1 - np.sqrt(sum(place**2 for place in places)) / radius
    return (depth > 0).astype(np.uint8), levels_of(depth.clip(-1, 1).astype(np.float32)).astype(np.uint32)


@pytest.mark.parametrize(
    ("shape", "spacing", "radius"),
    [
        ((40, 44), (1.0, 1.0), 9),
        ((60, 30), (0.5, 1.0), 11),
        ((30, 40, 24), (1.5, 1.0, 2.0), 15),
        ((1, 50, 50), (3.0, 1.0, 1.0), 12),
    ],
)
@pytest.mark.parametrize("order", "CF")
def test_the_diameter_is_that_of_the_ball(shape, spacing, radius, order):
    classes, levels = ball(shape, spacing, radius)
    own = median_diameter(np.asarray(classes, order=order), np.asarray(levels, order=order), [1], spacing)
    assert own == pytest.approx(2 * radius, rel=0.08)
    assert own == median_diameter(classes, levels, [1], spacing)


def test_large_scans_are_sampled(monkeypatch):
    classes, levels = ball((120, 110), (1.0, 1.0), 40)
    whole = median_diameter(classes, levels, [1], (1.0, 1.0))
    monkeypatch.setattr("voxelry.inference.object_scale._SAMPLES", 1000)
    assert median_diameter(classes, levels, [1], (1.0, 1.0)) == pytest.approx(whole, rel=0.05)


def test_nothing_is_said_without_objects():
    classes, levels = ball((20, 20), (1.0, 1.0), 6)
    assert median_diameter(classes, levels, [2], (1.0, 1.0)) is None
    assert median_diameter(classes[:2, :2], levels[:2, :2], [1], (1.0, 1.0)) is None
    assert median_diameter(np.ones((9, 9), np.uint8), np.full((9, 9), 200, np.uint32), [1], (1.0, 1.0)) is None
