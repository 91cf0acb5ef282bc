"""What memory a scan takes, counted before anything is allocated."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.plans import tiny_model, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import LabelTable
from voxelry.core.model import CleanUp
from voxelry.core.volume import Source, Volume
from voxelry.errors import BudgetError, CorruptFileError, ModelError
from voxelry.inference import memory_budget, segmenter
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor

MIB = 1 << 20
CPU = torch.device("cpu")


def predictor(labels=(1, 2), memory=None, clean_up=(), plan=None, **options):
    table = LabelTable.numbered(labels)
    rules = [CleanUp(label=table.names[0], keep_largest=True)] if clean_up else []
    model = tiny_model(plan or tiny_plan(), table)
    model = type(model)(model.plan, model.card.model_copy(update={"clean_up": tuple(rules)}), model.weights)
    return Predictor(model, "cpu", PredictOptions(memory=memory, overlap=0.0, **options))


def grid(shape):
    return Geometry.from_spacing(shape, (1,) * 3)


def promised(shape, channels=1, **more):
    """A scan whose pixels must not be decoded."""

    def decode():
        raise AssertionError("decoded")

    return Volume(decode, grid(shape), channels, source=Source("nifti", ("big.nii",)), **more)


def host_parts(predictor, volume):
    """The parts of the host's memory that are counted for a scan."""
    with pytest.raises(BudgetError) as caught:
        Predictor(
            predictor.models, "cpu", PredictOptions(memory=1, overlap=0.0, confidence=predictor.options.confidence)
        ).predict(volume)
    words = str(caught.value).partition("need ")[2].partition("(")[2].partition(")")[0].split(", ")
    return {name: int(size.removesuffix("MiB")) for name, _, size in (word.rpartition(" ") for word in words)}


# ---- refused by the header


@pytest.mark.parametrize("memory", ["1MiB", "900MiB", "2500MiB"])
def test_a_scan_that_cannot_fit_is_refused_by_its_header(memory):
    """2.98 GiB of voxels, at two bytes each."""
    voxels = 2000 * 2000 * 400
    volume = promised((2000, 2000, 400), decoding=(2 * voxels, 2 * voxels))
    with pytest.raises(BudgetError, match=r"too small for 3 classes.*\(pixels \d+MiB.*Give --memory (\d+)MiB") as caught:
        predictor(memory=PredictOptions.of(memory=memory).memory).predict(volume)
    own = memory_budget.resident_memory() + 600 * MIB  # what the process and the patches take
    assert 3 * voxels < caught.value.needed < 3 * voxels + own  # voxels, and labels on the scan's own grid


def test_a_scan_beyond_the_machine_is_refused_by_its_header_without_a_budget(monkeypatch):
    monkeypatch.setattr(memory_budget, "installed_memory", lambda: 4 << 30)
    with pytest.raises(BudgetError, match="budget of 3072MiB is too small"):
        predictor().predict(promised((2000, 2000, 400), decoding=(3 << 30, 3 << 30)))


def test_what_the_header_says_of_stored_numbers_counts():
    small, wide = promised((400, 400, 400)), promised((400, 400, 400), decoding=(3 << 30, 3 << 30))
    with pytest.raises(CorruptFileError, match="decoded"):
        predictor(memory=3 << 30).predict(small)
    with pytest.raises(BudgetError):
        predictor(memory=3 << 30).predict(wide)


def test_other_scans_are_refused_for_what_they_are_before_they_are_decoded():
    with pytest.raises(ModelError, match="3 channels"):
        predictor(memory=1).predict(promised((2000, 2000, 400), channels=3))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(8, 90)] * 3), st.booleans())
def test_the_budget_that_a_header_asks_for_suffices(shape, is_wide):
    array = np.ones((1, *shape), np.float32 if is_wide else np.int16)
    with pytest.raises(BudgetError) as caught:
        predictor(memory=1).predict(promised(shape))
    labels = predictor(memory=caught.value.needed + 16 * MIB).predict(Volume(lambda: array, grid(shape))).labels
    assert labels.layers.shape == array.shape


# ---- every part is counted


@pytest.mark.parametrize(
    ("labels", "options", "bytes_each"),
    [((1, 2), {}, 1), (range(1, 300), {}, 2), ((1, 900), {}, 3), ((1, 2), {"confidence": "entropy"}, 1)],
)
def test_labels_on_the_scans_own_grid_are_counted(labels, options, bytes_each):
    """Classes of one byte, or two beyond 256, and once more where stored values need more; and the map of confidence."""
    shape = (128, 128, 320)
    volume = Volume(np.ones((1, *shape), np.int16), grid(shape))
    counted = host_parts(predictor(labels, plan=tiny_plan(spacing=(8.0, 8.0, 8.0)), **options), volume)
    assert counted["labels"] == np.prod(shape) * bytes_each / MIB
    assert counted.get("confidence map", 0) == (5 if options else 0)


def test_clean_up_is_counted():
    shape = (128, 128, 320)
    volume = Volume(np.ones((1, *shape), np.int16), grid(shape))
    plan = tiny_plan(spacing=(8.0, 8.0, 8.0))
    assert host_parts(predictor(clean_up=True, plan=plan), volume)["clean-up"] == 30
    assert "clean-up" not in host_parts(predictor(plan=plan), volume)


@pytest.mark.parametrize(("instances", "channels"), [(None, 4), (True, 4), (False, 3)])
def test_of_an_instance_head_the_distance_alone_passes_through_the_ring_buffer(instances, channels, monkeypatch):
    """Three classes, and where objects are told apart by it the distance; border and core have taught the network."""
    plan = tiny_plan(instances=InstancePlan(labels=("label_1",), diameter=8))
    rings, make = [], segmenter.make_ring_buffer

    def made(*given, **more):
        rings.append(make(*given, **more))
        return rings[-1]

    monkeypatch.setattr(segmenter, "make_ring_buffer", made)
    scan = np.random.default_rng(0).normal(size=(1, 24, 22, 20)).astype(np.float32)
    own = predictor(plan=plan, instances=instances)
    own.predict(Volume(scan, grid(scan.shape[1:])))
    assert [len(ring.channels) for ring in rings] == [channels]
