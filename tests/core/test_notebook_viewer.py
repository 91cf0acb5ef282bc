"""The viewer in a notebook: the widget of ipyniivue gets the very voxels, grid and colours; where it cannot be shown, nothing."""

import gzip
import sys
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from voxelry.core import notebook_viewer
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.notebook_viewer import viewer_bundle
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import CorruptFileError
from voxelry.inference.predictor import Prediction

WIDGET = "application/vnd.jupyter.widget-view+json"
AFFINE = np.array([[0, -1.5, 0, 10], [1, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
GRID = Geometry((8, 10, 6), AFFINE)
TABLE = LabelTable(
    labels=(
        Label(value=5, name="<b>liver", color=(200, 0, 0)),
        Label(value=1, name="cyst", color=(0, 0, 200), layer=1, kind="thing"),
    )
)


def scan() -> Volume:
    return Volume(np.random.default_rng(0).integers(-900, 900, (1, *GRID.shape)).astype(np.int16), GRID, modality="CT")


def labels() -> LabelMap:
    layers = np.zeros((2, *GRID.shape), np.uint8)
    layers[0, 1:5, 2:6, 1:4], layers[1, 2, 3, 2] = 5, 1
    return LabelMap(layers, GRID, TABLE)


@pytest.fixture
def kernel(monkeypatch):
    """A process that takes itself for the kernel of a notebook; the viewers that it opens."""
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    notebook_viewer._open.clear()
    yield notebook_viewer._open
    while notebook_viewer._open:
        notebook_viewer._open.pop().close()


def image_of(volume) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(volume.data))


def test_a_scan_is_shown_with_its_voxels_grid_and_window(kernel):
    volume = scan()
    bundle = volume._repr_mimebundle_()
    [viewer] = kernel
    assert bundle[WIDGET]["model_id"] == viewer.model_id
    assert viewer.opts.is_radiological_convention
    [shown] = viewer.volumes
    np.testing.assert_array_equal(image_of(shown).get_fdata(), volume.array[0])
    np.testing.assert_allclose(image_of(shown).affine, AFFINE)
    assert (shown.cal_min, shown.cal_max) == (-160, 240)


def test_labels_are_shown_in_their_colours_where_layers_overlap_the_later_on_top(kernel):
    map = labels()
    assert WIDGET in map._repr_mimebundle_()
    assert WIDGET in Prediction(map, {})._repr_mimebundle_()
    black, shown = kernel[0].volumes
    assert not image_of(black).get_fdata().any()
    expected = np.where(map.layers[1] == 1, 2, np.where(map.layers[0] == 5, 1, 0))
    np.testing.assert_array_equal(image_of(shown).get_fdata(), expected)
    colours = np.reshape(shown.colormap_label.lut, (-1, 4))
    assert colours[:3].tolist() == [[0, 0, 0, 0], [200, 0, 0, 255], [0, 0, 200, 255]]
    assert shown.colormap_label.labels[1:3] == ["<b>liver", "cyst"]


def test_a_large_scan_is_thinned_and_keeps_its_place(kernel, monkeypatch):
    monkeypatch.setattr(notebook_viewer, "MOST_VOXELS", 130)
    map = labels()
    viewer_bundle(scan(), map)
    images = [image_of(shown) for shown in kernel[0].volumes]
    assert np.prod(images[0].shape) <= 130
    assert images[0].shape == images[1].shape
    np.testing.assert_allclose(images[0].affine[:3, 3], AFFINE[:3, 3])


def test_only_so_many_viewers_hold_memory(kernel, monkeypatch):
    monkeypatch.setattr(notebook_viewer, "MOST_VIEWERS", 2)
    map = labels()
    for _ in range(2):
        viewer_bundle(None, map)
    oldest = kernel[0]
    viewer_bundle(None, map)
    assert len(kernel) == 2
    assert oldest not in kernel
    assert oldest.comm is None  # closed


def test_elsewhere_the_picture_of_html_is_shown_alone(kernel, monkeypatch):
    def broken():
        raise CorruptFileError("a.dcm: is truncated")

    assert Volume(broken, GRID)._repr_mimebundle_() == {}
    assert Volume(np.zeros((1, 4, 5), np.uint8), Geometry((4, 5), None, None))._repr_mimebundle_() == {}
    monkeypatch.setattr(notebook_viewer, "is_installed", lambda _: False)
    assert scan()._repr_mimebundle_() == {}
    monkeypatch.undo()
    assert scan()._repr_mimebundle_() == {}  # no kernel
    assert not kernel
