import numpy as np
import pytest

from helpers.sources import SOURCES, labels, volume, voxels
from voxelry.core.geometry import Geometry
from voxelry.formats.reader import read


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_is_what_the_reader_gives(tmp_path, kind):
    made = volume(kind, tmp_path)
    found = read(tmp_path / f"source-{kind}" if kind != "single" else made.source.files[0])
    assert found.geometry.same_grid(made.geometry)
    assert found.source.instances == made.source.instances
    assert found.source.files == made.source.files
    np.testing.assert_array_equal(found.array, made.array)


def test_the_labels_hold_every_difficulty():
    made = labels(Geometry.from_spacing((20, 16, 9), (1, 1, 1)))
    counts = {label.name: int(made.mask(label.name).sum()) for label in made.table.labels}
    assert counts["lone voxel"] == 1
    assert counts["Körper (empty)"] == 0
    assert (made.layers[0].astype(bool) & made.layers[1].astype(bool)).any()
    assert len(np.unique(voxels((20, 16, 9)))) > 2
