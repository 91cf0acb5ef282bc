"""Radiomics: published values of IBSI's digital phantom."""

import logging

import numpy as np
import pytest

from helpers import ibsi_phantom
from voxelry.base.extras import is_installed
from voxelry.cohort.radiomics import radiomics_rows, tagged
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GeometryError, GridMismatchError, MissingExtraError
from voxelry.metrics.measurement_columns import measurement_rows
from voxelry.phantom import small_phantom

needs_mirp = pytest.mark.skipif(not is_installed("mirp"), reason="the extra 'radiomics' (MIRP) is not installed")

REFERENCE = {
    "morph_volume_RNU0": (556, 4), "morph_vol_approx_YEKZ": (592, 4), "morph_sphericity_QCFX": (0.843, 0.005),
    "morph_moran_i_N365": (0.0397, 3e-4), "stat_mean_Q4LE": (2.15, 0.005),
    "stat_skew_KE2A": (1.08, 0.005), "stat_p90_8DWT": (4, 0), "ih_entropy_TLU2": (1.27, 0.005),
    "cm_joint_max_d1_3d_v_mrg_GYBY": (0.509, 0.0005), "rlm_sre_3d_v_mrg_22OV": (0.729, 0.0005),
    "szm_sze_3d_5QRC": (0.255, 0.0005), "dzm_sde_3d_0GBI": (1, 0), "ngt_coarseness_3d_QCDE": (0.0296, 5e-5),
    "ngl_lde_d1_a0.0_3d_SODN": (0.045, 0.0005),
}  # fmt: skip
"""Of the manual's tables for the digital phantom, where matrices are merged over the volume."""


def digital_phantom():
    """The phantom turned round and within a larger image, as a lesion beside another."""
    shape = (12, 10, 9)
    image, array, ids = np.zeros((1, *shape), np.int16), np.zeros((1, *shape), np.uint8), np.zeros((1, *shape), np.uint32)
    place = (0, slice(3, 8), slice(3, 7), slice(2, 6))
    inside = ibsi_phantom.mask()
    image[place], array[place], ids[place] = ibsi_phantom.IMAGE, inside, 7 * inside
    image[0, 10, 8, 8], array[0, 10, 8, 8], ids[0, 10, 8, 8] = 3, 1, 9
    table = LabelTable(labels=(Label(value=1, name="lesion", kind="thing"), Label(value=2, name="absent")))
    grid = Geometry(shape, np.diag([-2.0, -2.0, 2.0, 1.0]))
    return LabelMap(array, grid, table, instances=ids), Volume(image, grid, 1, "MR")


@needs_mirp
@pytest.mark.slow
def test_the_published_values_of_the_digital_phantom(capsys):
    labels, volume = digital_phantom()
    handlers = list(logging.root.handlers)
    rows = radiomics_rows(labels, volume, base_discretisation_method="none", base_discretisation_n_bins=None)
    assert [(row["label"], row["instance"]) for row in rows] == [("lesion", 7), ("lesion", 9)]
    for name, (value, tolerance) in REFERENCE.items():
        assert rows[0][name] == pytest.approx(value, abs=tolerance), name
    assert len([name for name in rows[0] if tagged("_".join(name.split("_")[:-1])) == name]) > 100
    assert all(value is None or isinstance(value, str | int | float) for row in rows for value in row.values())
    own = measurement_rows(labels, volume)[0]
    for name, column in (("morph_area_mesh_C0JK", "surface_mm2"), ("morph_diam_L0JK", "largest_diameter_mm")):
        assert rows[0][name] == pytest.approx(own[column], rel=1e-6)
    assert capsys.readouterr() == ("", "")
    assert logging.root.handlers == handlers
    assert logging.root.manager.disable == logging.NOTSET


def test_tags_are_four_characters_of_the_manual():
    assert tagged("morph_comp_1") == "morph_comp_1_SKGS"
    assert tagged("morph_comp_2") == "morph_comp_2_BQWJ"
    assert tagged("rlm_glnu_norm_3d_v_mrg") != tagged("rlm_glnu_3d_v_mrg").replace("glnu", "glnu_norm")
    assert tagged("something_else") == "something_else"


@needs_mirp
def test_what_cannot_be_measured():
    labels, volume = digital_phantom()
    xray = small_phantom("chest-xray")
    with pytest.raises(GeometryError, match="volumes"):
        radiomics_rows(xray.labels, xray.volume)
    tilted = Geometry(labels.geometry.shape, np.array([[2, 0, 0, 0], [0, 2, 0.5, 0], [0, 0, 2, 0], [0, 0, 0, 1]], float))
    with pytest.raises(GeometryError, match="right angles"):
        radiomics_rows(LabelMap(labels.layers, tilted, labels.table), Volume(volume.array, tilted))
    with pytest.raises(GridMismatchError):
        radiomics_rows(labels, Volume(volume.array, tilted))


def test_without_mirp_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mirp", None)
    with pytest.raises(MissingExtraError, match=r"voxelry\[radiomics\]"):
        radiomics_rows(*digital_phantom())
