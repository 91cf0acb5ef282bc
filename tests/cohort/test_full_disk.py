"""Every writer on a full disk: one error of the system that names the file, the old file whole, nothing left beside it."""

import errno
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import voxelry as vx
from helpers import format_samples as samples
from helpers.full_disk import contents, fill, largest_file, small_disk
from helpers.plans import SIDED, tiny_plan
from helpers.sources import volume
from helpers.training_cases import loop
from helpers.written import FORMATS
from voxelry.base.files import write_json, write_yaml
from voxelry.cohort.evaluation import write_scores
from voxelry.core.labels import Label, LabelTable
from voxelry.core.model import Model, ModelCard
from voxelry.core.volume import LabelMap
from voxelry.formats.dicom.objects.segment_descriptions import Algorithm
from voxelry.formats.grids.nifti_write import write_nifti_image
from voxelry.metrics.families import measure
from voxelry.networks.build import build_network
from voxelry.networks.weights import save_model, weights_of
from voxelry.planning.fingerprint import make_fingerprint
from voxelry.planning.plan_file import save_plan
from voxelry.preparation.mapped_array import store_array
from voxelry.reports.learning import write_curves
from voxelry.reports.overlay import overlay_png
from voxelry.training.checkpoint import LossFile, Milestone, save_checkpoint
from voxelry.training.predictions import StoredPredictions
from voxelry.training.run_files import save_validation

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass
class Samples:
    """Something to write of each kind; noise, so that no file is tiny."""

    scan: vx.Volume
    labels: LabelMap
    picture: vx.Volume
    picture_labels: LabelMap
    segmentation: Path
    model: Model
    scores: vx.Scores


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    volume("axial", folder)
    scan = vx.read(folder / "source-axial")
    rng = np.random.default_rng(0)
    table = LabelTable(labels=(Label(value=1, name="organ"), Label(value=2, name="lesion")))
    labels = LabelMap.of(rng.integers(0, 3, scan.geometry.shape).astype(np.uint8), scan.geometry, table)
    picture = samples.picture(0)
    picture_labels = LabelMap.of(rng.integers(0, 3, picture.geometry.shape).astype(np.uint8), picture.geometry, table)
    seg = vx.write(labels, folder / "seg.dcm", format="dicom-seg", source=scan)
    plan = tiny_plan(3)
    fingerprint = make_fingerprint([lambda: (scan, None)], plan.channels, "MR", SIDED)
    card = ModelCard(name="set", version="0", labels=SIDED, fingerprint=fingerprint)
    model = Model(plan, card, weights_of(build_network(plan, 4)))
    return Samples(scan, labels, picture, picture_labels, seg, model, measure(labels, labels, "case"))


def write_labels(row, given, folder):
    path = folder / f"x{row.ending}"
    labels = given.picture_labels if row.is_picture else given.labels
    options = {"algorithm": Algorithm(name="a")} if "algorithm" in row.options else {}
    if "segmentation" in row.required_options:
        options |= {"segmentation": given.segmentation}
    return row.write(labels, path, None if row.is_picture else given.scan, options)


def checkpoint(given, folder):
    training = loop(folder, 3, steps=1)
    save_checkpoint(training.state, folder)


def milestones():
    return {"3d": (Milestone(1, 1.0, 0.5, {"organ": 0.5}, 1.0, 0.1), Milestone(2, 0.5, 0.6, {"organ": 0.6}, 2.0, 0.1))}


OTHERS = {
    "image": lambda given, folder: write_nifti_image(given.scan, folder / "x.nii.gz"),
    "flat image": lambda given, folder: write_nifti_image(given.scan, folder / "x.nii"),
    "model": lambda given, folder: save_model(given.model, folder / "model"),
    "checkpoint": checkpoint,
    "csv": lambda given, folder: write_scores(given.scores, folder / "x.csv"),
    "parquet": lambda given, folder: write_scores(given.scores, folder / "x.parquet"),
    "json": lambda given, folder: write_scores(given.scores, folder / "x.json"),
    "folder of scores": lambda given, folder: write_scores(given.scores, folder / "scores"),
    "yaml": lambda given, folder: write_yaml(folder / "x.yaml", {"key": "value"}),
    "plain json": lambda given, folder: write_json(folder / "x.json", {"key": "value"}),
    "plan": lambda given, folder: save_plan(given.model.plan, folder / "plan.yaml"),
    "prediction": lambda given, folder: StoredPredictions(folder, given.labels.table).save("x", given.labels),
    "validation": lambda given, folder: save_validation(given.scores, folder),
    "curves": lambda given, folder: write_curves(milestones(), folder, "title"),
    "overlay": lambda given, folder: overlay_png(given.picture, given.picture_labels, folder / "x.png"),
}
WRITERS = {
    **{f"format {name}": partial(write_labels, row) for name, row in FORMATS.items()},
    **OTHERS,
}


def full_error(write, given, folder):
    """Writing failed by an error of the system that names a file of the folder, and no temporary one."""
    with pytest.raises(OSError) as caught:
        write(given, folder)
    assert caught.value.errno in FULL
    assert Path(caught.value.filename).is_relative_to(folder)
    assert ".tmp-" not in str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_limit_on_the_size_of_files(name, given, tmp_path):
    write, folder = WRITERS[name], tmp_path / "out"
    folder.mkdir()
    write(given, folder)
    before = contents(folder)
    largest = max(map(len, before.values()))
    for limit in (0, largest * 3 // 4):
        with largest_file(limit):
            full_error(write, given, folder)
        assert contents(folder).keys() == before.keys()
        assert all(content or not before[file] for file, content in contents(folder).items())
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    with largest_file(0):
        full_error(write, given, fresh)
    assert not contents(fresh)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_file_system(name, given, tmp_path):
    write = WRITERS[name]
    with small_disk(tmp_path / "out", 4096) as folder:
        write(given, folder)
        before = contents(folder)
        largest = max(map(len, before.values()))
        for spare in (0, largest // 2) if largest > 4 * 4096 else (0,):
            fill(folder, spare)
            full_error(write, given, folder)
            (folder / "filler").unlink()
            assert contents(folder).keys() == before.keys()


def test_an_array_that_is_mapped_later(tmp_path):
    with largest_file(1000), pytest.raises(OSError, match=str(errno.EFBIG)):
        store_array(tmp_path / "x.npy", np.ones((10, 100), np.float32), np.float16)
    with small_disk(tmp_path / "disk", 64) as folder, pytest.raises(OSError, match=str(errno.ENOSPC)):
        store_array(folder / "x.npy", np.ones((100, 1000), np.float32), np.float16)


def add_losses(folder):
    with LossFile(folder, 0) as losses:
        fill(folder)
        for step in range(1000):
            losses.add(step, 1.0, 0.1)


def test_the_losses_of_every_step(tmp_path):
    with small_disk(tmp_path / "disk", 16) as folder, pytest.raises(OSError, match=str(errno.ENOSPC)):
        add_losses(folder)
