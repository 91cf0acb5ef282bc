"""Many scans, one after the other: a bad one is reported and the others continue."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydicom import dcmread

import voxelry as vx
from helpers.dummy_predictor import predictor
from voxelry.cohort import scan_job, scan_outputs
from voxelry.cohort.batch import segment_scans
from voxelry.cohort.scan_names import Scan
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, ModelError, UsageError
from voxelry.formats.reader import read, read_labels
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Prediction
from voxelry.phantom.nifti import write_nifti

TABLE = LabelTable(labels=(Label(value=1, name="bright"),))
GRID = Geometry.from_spacing((4, 3, 2), (1, 2, 3))


def bright(volume, progress=None):
    """A predictor without a network: what is above 50."""
    if volume.array.max() > 1000:
        raise ModelError("too bright")
    return Prediction(LabelMap.of((volume.array[0] > 50).astype(np.uint8), volume.geometry, TABLE), {}, ("a flag",))


PREDICTOR = predictor(bright)


@pytest.fixture
def scans(tmp_path):
    made = []
    for name in "abc":
        array = np.random.default_rng(ord(name)).integers(0, 100, GRID.shape).astype(np.int16)
        made.append(Scan(name, (write_nifti(array, GRID, tmp_path / "in" / f"{name}.nii.gz"),)))
    return made


def names(folder):
    return sorted(path.name for path in folder.glob("[!.]*"))


def test_a_scan_whose_name_can_be_no_file_name_everywhere_ends_no_batch(scans, tmp_path):
    outcomes = segment_scans(PREDICTOR, [Scan("a:b", scans[0].images), scans[1]], tmp_path / "out", ["nifti"])
    assert "'a:b' cannot be a file name" in outcomes[0].error
    assert names(tmp_path / "out") == ["b.nii.gz"]


def test_each_scan_gets_its_mask(scans, tmp_path):
    seen = []
    out = tmp_path / "out" / "masks"
    outcomes = segment_scans(PREDICTOR, scans, out, ["nifti"], progress=lambda *call: seen.append(call))
    assert seen == [("segmenting", number, 3) for number in (1, 2, 3)]
    assert [outcome.id for outcome in outcomes] == ["a", "b", "c"]
    assert names(out) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    for scan, outcome in zip(scans, outcomes, strict=True):
        assert outcome.files == {"nifti": out / f"{scan.id}.nii.gz"}
        assert (outcome.flags, outcome.error) == (("a flag",), "")
        labels = read_labels(outcome.files["nifti"])
        assert labels.geometry.same_grid(GRID)
        assert labels.table == TABLE


def test_results_that_would_be_one_file_are_refused_before_anything_is_written(scans, tmp_path):
    """A map's name may be another scan's mask's; ids that differ in case alone are one name on some disks."""
    out = tmp_path / "out"
    sure = predictor(bright, options=PredictOptions(confidence="entropy"))
    for pair, formats, predicts in (
        (("a", "a.entropy"), ["nifti"], sure),
        (("a", "a.seg"), ["seg-nrrd", "nrrd"], PREDICTOR),
        (("a", "a.seg"), ["dicom-sr", "seg-nrrd", "nrrd"], PREDICTOR),
        (("Ä", "a\u0308"), ["nifti"], PREDICTOR),
    ):
        clashing = [Scan(name, scan.images) for name, scan in zip(pair, scans, strict=False)]
        with pytest.raises(UsageError, match="would both be written to"):
            segment_scans(predicts, clashing, out, formats)
        assert not out.exists()


@pytest.mark.parametrize("reference", [None, 0, 1])
def test_channels_on_two_grids_are_laid_onto_the_models_reference(tmp_path, reference):
    grids = GRID, Geometry.from_spacing((6, 5, 3), (0.7, 1.1, 1.8), (0.2, -0.3, 0.1))
    files = tuple(
        write_nifti(np.full(grid.shape, 60 + k, np.int16), grid, tmp_path / f"{k}.nii.gz") for k, grid in enumerate(grids)
    )
    seen = []
    made = predictor(lambda volume, progress: (seen.append(volume), bright(volume))[1])
    made.model.plan.reference = reference
    (outcome,) = segment_scans(made, [Scan("a", files)], tmp_path / "out", ["nifti"])
    if reference is None:
        assert "`reference_channel`" in outcome.error
        return
    assert read_labels(outcome.files["nifti"]).geometry.same_grid(grids[reference])
    assert seen[0].array.shape == (2, *grids[reference].shape)
    assert [remark for remark in outcome.remarks if "resampled onto the grid of" in remark]


def spoil(scan, how):
    path = scan.images[0]
    if how == "text":
        path.write_text("not an image at all")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-12])
    elif how == "gone":
        path.unlink()
    else:
        array = np.full(GRID.shape, {"bright": 2000, "nan": np.nan}[how], np.float32)
        write_nifti(array, GRID, path)


@pytest.mark.parametrize("how", ["text", "truncated", "gone", "bright", "nan"])
def test_a_bad_scan_stops_nobody(scans, tmp_path, how):
    spoil(scans[1], how)
    out = tmp_path / "out"
    outcomes = segment_scans(PREDICTOR, scans, out, ["nifti"])
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert outcomes[1].files == {}
    assert how == "bright" or str(scans[1].images[0]) in outcomes[1].error
    assert names(out) == ["a.nii.gz", "c.nii.gz"]


def test_a_scan_whose_second_format_fails_leaves_no_file(scans, tmp_path):
    outcomes = segment_scans(PREDICTOR, scans[:1], tmp_path / "out", ["nifti", "dicom-seg"])
    assert "DICOM" in outcomes[0].error
    assert names(tmp_path / "out") == []


def test_a_failing_watcher_fails_its_scan(scans, tmp_path):
    def watch(scan, volume, prediction):
        assert prediction.labels.geometry is volume.geometry
        if scan.id == "b":
            raise PermissionError("no room on the wall")

    outcomes = segment_scans(PREDICTOR, scans, tmp_path / "out", ["nifti"], watch=watch)
    assert [outcome.error for outcome in outcomes] == ["", "no room on the wall", ""]
    assert names(tmp_path / "out") == ["a.nii.gz", "c.nii.gz"]


def test_an_unknown_format_is_refused_before_anything_is_done(scans, tmp_path):
    with pytest.raises(UsageError, match=r"'nifty'.*'nifti'"):
        segment_scans(PREDICTOR, scans, tmp_path / "out", ["nifti", "nifty"])
    assert not (tmp_path / "out").exists()


def test_labels_on_layers_are_written_in_formats_that_hold_them(scans, tmp_path):
    labels = tuple(Label(value=1, name=f"layer {layer}", layer=layer) for layer in (0, 1))
    table = LabelTable(labels=labels)

    def both(volume, progress=None):
        return Prediction(LabelMap(np.ones((2, *GRID.shape), np.uint8), volume.geometry, table), {})

    with pytest.raises(ExportError, match=r"lie on 2 layers, a NIfTI file holds one.*dicom-seg.*seg-nrrd"):
        segment_scans(predictor(both, labels=table), scans, tmp_path / "out", ["seg-nrrd", "nifti"])
    assert not (tmp_path / "out").exists()
    outcomes = segment_scans(predictor(both, labels=table), scans, tmp_path / "out", ["seg-nrrd"])
    assert not any(outcome.error for outcome in outcomes)
    assert len(read_labels(outcomes[0].files["seg-nrrd"]).layers) == 2


def test_a_place_that_is_no_folder_stops_at_once(scans, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        segment_scans(PREDICTOR, scans, tmp_path / "file", ["nifti"])


def test_an_interrupt_leaves_no_file(scans, tmp_path, monkeypatch):
    """Ctrl-C while the second format is written, and while windows run."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_scans(PREDICTOR, scans, tmp_path / "out", ["nifti"], watch=stop)
    assert names(tmp_path / "out") == []
    monkeypatch.setattr("voxelry.formats.grids.seg_nrrd_write.write_seg_nrrd", stop)
    with pytest.raises(KeyboardInterrupt):
        segment_scans(PREDICTOR, scans, tmp_path / "out", ["nifti", "seg-nrrd"])
    assert names(tmp_path / "out") == []
    with pytest.raises(KeyboardInterrupt):
        segment_scans(predictor(stop), scans, tmp_path / "out", ["nifti"])
    assert names(tmp_path / "out") == []


def test_a_map_of_confidence_lies_beside_the_mask(scans, tmp_path):
    def sure(volume, progress):
        progress("patches", 1, 1)
        prediction = bright(volume)
        return replace(prediction, map=Volume(np.full((1, *GRID.shape), 200, np.uint8), volume.geometry))

    sees = predictor(sure, options=PredictOptions(confidence="entropy"))
    told = []
    outcomes = segment_scans(sees, scans[:1], tmp_path / "out", ["nifti"], progress=lambda *call: told.append(call))
    assert told == [("patches", 1, 1), ("segmenting", 1, 1)]
    assert names(tmp_path / "out") == ["a.entropy.nii.gz", "a.nii.gz"]
    written = read(outcomes[0].files["entropy"])
    assert written.geometry.same_grid(GRID)
    assert (written.array == 200).all()


def test_a_report_brings_the_segmentation_it_refers_to(torso, torso_model, tmp_path):
    scan = min(path.parent for path in torso.rglob("*.dcm"))
    outcomes = vx.predict(torso_model, scan, tmp_path / "out", formats=["dicom-sr", "rtstruct"])
    assert outcomes[0].error == ""
    assert sorted(outcomes[0].files) == ["dicom-seg", "dicom-sr", "rtstruct"]
    report, segmentation = (dcmread(outcomes[0].files[name]) for name in ("dicom-sr", "dicom-seg"))
    assert segmentation.SOPInstanceUID in report.to_json()
    assert segmentation.SegmentSequence[0].SegmentAlgorithmName == vx.load_model(torso_model).model.card.name
    assert any("backend torch" in remark for remark in outcomes[0].remarks)


def test_why_a_scan_is_not_called_as_its_file_is_a_remark(scans, tmp_path):
    (outcome,) = segment_scans(PREDICTOR, [replace(scans[0], remark="a.nii: called 'p1'")], tmp_path / "out", ["nifti"])
    assert outcome.remarks[0] == "a.nii: called 'p1'"


BROKEN = [
    (MemoryError(), "memory ran out"),
    (np._core._exceptions._ArrayMemoryError((9, 9), np.dtype(np.int8)), "memory ran out"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "memory ran out"),
    (torch.OutOfMemoryError("CUDA out of memory"), "memory ran out"),
    (ValueError("a\nb\nc" * 400), "an unexpected error (ValueError: a b c"),
    (RecursionError("maximum recursion depth exceeded"), "an unexpected error (RecursionError: maximum"),
    (
        ZeroDivisionError("division by zero"),
        "an unexpected error (ZeroDivisionError: division by zero). This is a fault of voxelry",
    ),
    (AssertionError(), "an unexpected error (AssertionError:"),
    (KeyError("x"), "an unexpected error (KeyError: 'x')"),
    (StopIteration(), "StopIteration"),
    (OSError(28, "No space left on device"), "No space left on device"),
]


WHILE_READING = {"memory ran out": "does not fit into memory"}


@pytest.mark.parametrize(("error", "message"), BROKEN)
@pytest.mark.parametrize("where", ["predicting", "writing", "watching", "decoding"])
def test_whatever_one_scan_raises_the_others_go_on(scans, tmp_path, monkeypatch, error, message, where):
    def fail(*_, **__):
        raise error

    def on_b(works):
        return lambda scan, *rest: fail() if scan.id == "b" else works(scan, *rest)

    broken = predictor(lambda volume, _=None: fail() if "b.nii" in volume.source.name else bright(volume))
    used, watch = PREDICTOR, lambda *_: None
    if where == "predicting":
        used = broken
    elif where == "watching":
        watch = on_b(watch)
    elif where == "writing":
        works = scan_outputs.write_format
        monkeypatch.setattr(
            scan_outputs,
            "write_format",
            lambda row, labels, path, *rest: fail() if path.name[0] == "b" else works(row, labels, path, *rest),
        )
    else:
        works = scan_job.read_channels
        monkeypatch.setattr(
            scan_job,
            "read_channels",
            lambda images, *rest: replace(works(images), pixels=fail) if images[0].name[0] == "b" else works(images),
        )
        message = WHILE_READING.get(message, "cannot be read (")
    outcomes = segment_scans(used, scans, tmp_path / "out", ["nifti"], watch=watch)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert len(outcomes[1].error) < 500
    assert message in outcomes[1].error
    assert "\n" not in outcomes[1].error
    assert names(tmp_path / "out") == ["a.nii.gz", "c.nii.gz"]


def test_an_interruption_ends_the_batch(scans, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_scans(predictor(interrupted), scans, tmp_path / "out", ["nifti"])
    assert names(tmp_path / "out") == []
