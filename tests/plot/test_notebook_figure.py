import gc
import weakref

import pytest
from IPython.core.formatters import DisplayFormatter

from voxelry import plot


@pytest.fixture
def figure():
    return plot.bland_altman([1.0, 2.0, 3.0], [1.1, 1.9, 3.2])


def test_a_notebook_without_pyplot_shows_the_figure(figure):
    data, _ = DisplayFormatter().format(figure)
    assert data["image/png"].startswith(b"\x89PNG\r\n")


def test_the_figure_is_freed_with_its_last_reference():
    reference = weakref.ref(plot.bland_altman([1.0, 2.0], [1.1, 1.9]))
    gc.collect()
    assert reference() is None
