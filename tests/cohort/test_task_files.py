"""What `predict --task` writes, read back by other libraries and by voxelry itself."""

import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from skimage.measure import label as connected

import voxelry as vx
from helpers.dummy_predictor import predictor
from helpers.plans import picture, tiny_model, tiny_plan
from voxelry.cohort.batch import segment_scans
from voxelry.cohort.scan_names import Scan
from voxelry.cohort.task_files import check_formats, default_task, write_id_map
from voxelry.core.geometry import Geometry
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import ExportError, UsageError
from voxelry.formats.id_map import read_ids
from voxelry.formats.reader import read_labels
from voxelry.formats.table import format_named
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Prediction, Predictor

TISSUE = Label(value=1, name="tissue")
NUCLEUS = Label(value=2, name="nucleus", kind="thing")
TABLE = LabelTable(labels=(TISSUE, NUCLEUS))
STUFF = LabelTable(labels=(TISSUE, Label(value=2, name="nucleus")))
SIZE = (20, 30)


def picture_file(folder, seed=0):
    """Grey values: tissue above 50, nuclei above 200."""
    rng = np.random.default_rng(seed)
    grey = np.where(rng.random(SIZE) > 0.4, 100, 0).astype(np.uint8)
    grey[2:5, 3:9] = grey[2:5, 12:20] = grey[14:20, 5:8] = 250
    folder.mkdir(exist_ok=True)
    Image.fromarray(grey).save(folder / "a.png")
    return folder / "a.png"


def told_apart(table=TABLE, ids=True):
    """A predictor without a network."""

    def predict(volume, progress=None):
        grey = volume.array[0]
        classes = np.where(grey > 200, 2, np.where(grey > 50, 1, 0)).astype(np.uint8)
        instances = connected(classes == 2, connectivity=2).astype(np.uint32)[None] if ids else None
        labels = LabelMap(classes[None], volume.geometry, table, volume.source, instances)
        return Prediction(labels, {"tissue": 0.7, "nucleus": 0.9})

    return predictor(predict)


def run(tmp_path, task, formats=("png",), **more):
    out = tmp_path / "out"
    [outcome] = segment_scans(told_apart(**more), [Scan("a", (picture_file(tmp_path / "in"),))], out, formats, task=task)
    assert outcome.error == ""
    return out, outcome


def names(folder):
    return sorted(path.name for path in folder.glob("[!.]*"))


def test_instances_as_png_are_a_map_of_ids_of_16_bits(tmp_path):
    out, outcome = run(tmp_path, "instance")
    assert names(out) == ["a.json", "a.png"]
    assert outcome.files == {"png": out / "a.png", "segments": out / "a.json"}
    with Image.open(out / "a.png") as image:
        assert image.mode == "I;16"
        ids = np.array(image)
    grey = np.array(Image.open(tmp_path / "in" / "a.png"))
    assert np.array_equal(ids, connected(grey > 200, connectivity=2))
    content = json.loads((out / "a.json").read_text())
    assert (content["task"], content["id2label"]) == ("instance", {"0": "background", "2": "nucleus"})
    rows = content["segments_info"]
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert {(row["label"], row["label_id"], row["score"]) for row in rows} == {("nucleus", 2, 0.9)}
    assert [row["voxels"] for row in rows] == [np.count_nonzero(ids == i) for i in (1, 2, 3)]
    assert [row["touches_border"] for row in rows] == [False, False, True]


def test_a_map_of_ids_is_read_back_with_its_labels(tmp_path):
    out, _ = run(tmp_path, "instance", ("png", "nifti"))
    for name in ("a.png", "a.nii.gz"):
        labels = read_labels(out / name)
        assert labels.table.names == ("nucleus",)
        assert np.array_equal(labels.array, np.where(labels.instances[0] > 0, 2, 0))
        assert labels.instances.max() == 3
        assert read_labels(out / name, TABLE).table == TABLE
    assert nib.load(out / "a.nii.gz").get_data_dtype() == np.uint16


def test_a_map_of_ids_is_plain_without_its_file_of_segments(tmp_path):
    out, _ = run(tmp_path, "instance")
    (out / "a.json").unlink()
    assert read_labels(out / "a.png").table.names == ("label_1", "label_2", "label_3")


def test_a_semantic_map_has_neither_ids_nor_segments(tmp_path):
    out, outcome = run(tmp_path, "semantic", ("png", "coco"))
    assert names(out) == ["a.coco.json", "a.png"]
    assert sorted(np.unique(Image.open(out / "a.png"))) == [0, 1, 2]
    rows = json.loads((out / "a.coco.json").read_text())["annotations"]
    assert {(row["category_id"], row["score"]) for row in rows} == {(1, 0.7), (2, 0.9)}
    assert outcome.remarks == ("no physical size: DPI is not one", "backend torch")


def test_panoptic_results_are_labels_and_segments(tmp_path):
    out, _ = run(tmp_path, "panoptic")
    assert {"a.json", "a.png"} <= set(names(out))
    assert sorted(np.unique(Image.open(out / "a.png"))) == [0, 1, 2]
    rows = json.loads((out / "a.json").read_text())["segments_info"]
    assert [(row["id"], row["label"]) for row in rows] == [(1, "nucleus"), (2, "nucleus"), (3, "nucleus"), (4, "tissue")]


def test_labels_without_names_take_those_of_the_segments_beside_them(tmp_path):
    out, _ = run(tmp_path, "panoptic", ("png", "tiff", "metaimage"))
    for name in ("a.png", "a.tif", "a.mha"):
        labels = read_labels(out / name)
        assert labels.table == TABLE
        assert labels.instances.max() == 3
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(out / "a.png")
    assert read_labels(out / "a.png").table.names == ("label_9",)
    (out / "a.json").unlink()
    assert read_labels(out / "a.mha").table.names == ("label_1", "label_2")


def test_formats_that_hold_objects_hold_those_of_the_task(tmp_path):
    out, outcome = run(tmp_path, "instance", ("coco",))
    annotations = json.loads((out / "a.coco.json").read_text())["annotations"]
    assert [row["category_id"] for row in annotations] == [2, 2, 2]
    assert [row["score"] for row in annotations] == [0.9, 0.9, 0.9]
    assert json.loads(outcome.files["segments"].read_text())["id_maps"] == []


@pytest.mark.parametrize(
    ("table", "ids", "said", "count"),
    [(TABLE, False, "objects are the connected components of things", 3), (STUFF, False, "no label is of kind thing", 3)],
)
def test_a_model_that_tells_nothing_apart_has_components(tmp_path, table, ids, said, count):
    out, outcome = run(tmp_path, "instance", table=table, ids=ids)
    assert any(said in remark for remark in outcome.remarks)
    rows = json.loads((out / "a.json").read_text())["segments_info"]
    assert sum(row["label"] == "nucleus" for row in rows) == count


def test_outputs_of_another_are_not_replaced(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.json").write_text("{}")
    with pytest.raises(UsageError, match=r"a\.json: exists, and was not written by this command"):
        segment_scans(told_apart(), [Scan("a", (picture_file(tmp_path / "in"),))], out, ["png"], task="instance")
    (out / "a.json").unlink()
    run(tmp_path, "instance")
    run(tmp_path, "panoptic")


def test_results_that_would_be_one_file_are_refused(tmp_path):
    file = picture_file(tmp_path / "in")
    scans = [Scan("a", (file,)), Scan("a.coco", (file,))]
    with pytest.raises(UsageError, match=r"would both be written to a\.coco\.json"):
        segment_scans(told_apart(), scans, tmp_path / "out", ["coco"], task="instance")


def test_formats_without_maps_of_ids_and_unknown_tasks_are_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown task"):
        segment_scans(told_apart(), [], tmp_path / "out", ["png"], task="instances")
    of_a_plugin = replace(format_named("metaimage"), name="plain", write_ids="")
    with pytest.raises(UsageError, match=r"no map of ids is written in format 'plain'.*nrrd, metaimage"):
        check_formats("instance", [of_a_plugin])
    check_formats("panoptic", [of_a_plugin])


GRIDS = {"nifti": "a.nii.gz", "nrrd": "a.nrrd", "metaimage": "a.mha"}


def test_grids_hold_the_objects_of_a_volume_under_either_task(tmp_path):
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.7, 0.8, 3), (-11.5, 20.25, 3)
    classes = rng.integers(0, 3, (7, 6, 5)).astype(np.uint8)
    ids = np.where(classes == 2, rng.choice([1, 5, 70_000, 2**31], classes.shape), 0).astype(np.uint32)
    nib.save(nib.Nifti1Image(classes.astype(np.int16), affine), tmp_path / "scan.nii.gz")

    def predict(volume, progress=None):
        return Prediction(LabelMap(classes[None], volume.geometry, TABLE, volume.source, ids[None]), {})

    scans = [Scan("a", (tmp_path / "scan.nii.gz",))]
    grid = vx.read(tmp_path / "scan.nii.gz").geometry
    for task in ("instance", "panoptic"):
        out = tmp_path / task
        [outcome] = segment_scans(predictor(predict), scans, out, list(GRIDS), task=task)
        assert outcome.error == ""
        for name in GRIDS.values():
            labels = read_labels(out / name, TABLE)
            assert labels.geometry.same_grid(grid)
            np.testing.assert_array_equal(labels.array, np.where(ids > 0, 2, 0) if task == "instance" else classes)
            np.testing.assert_array_equal(labels.instances[0], ids)
        for name in ("a.nrrd", "a.mha") if task == "instance" else ("a_instances.nrrd", "a_instances.mha"):
            image = SimpleITK.ReadImage(out / name)
            np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, ids)
            np.testing.assert_allclose(np.diag([-1, -1, 1]) @ image.GetOrigin(), affine[:3, 3], atol=1e-5)
    assert json.loads((tmp_path / "instance" / "a.json").read_text())["id_maps"] == list(GRIDS.values())


@pytest.mark.parametrize(("name", "ending"), [("nrrd", ".nrrd"), ("metaimage", ".mha"), ("nifti", ".nii.gz"), ("tiff", ".tif")])
def test_ids_of_a_picture(tmp_path, name, ending):
    ids = np.array([[0, 2**31, 3], [70_000, 0, 3]])
    grid = Geometry((2, 3), pixel_size=(0.5, 0.25))
    file = write_id_map(format_named(name), replace(map_of(ids), geometry=grid), tmp_path / f"a{ending}")
    back, geometry, _ = read_ids(file)
    np.testing.assert_array_equal(back, ids)
    assert name == "tiff" or geometry.pixel_size == (0.5, 0.25)


def never(volume, progress=None):
    raise AssertionError("segmented for nothing")


def volume_file(folder, shear=0.0):
    folder.mkdir(exist_ok=True)
    affine = np.eye(4)
    affine[0, 2] = shear
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), affine), folder / "a.nii.gz")
    return folder / "a.nii.gz"


@pytest.mark.parametrize(
    ("write", "format", "message"),
    [
        (picture_file, "nrrd", ""),
        (picture_file, "stl", "a STL holds a volume|an STL holds a volume"),
        (volume_file, "coco", "a COCO file holds a picture, not 6 x 5 x 4 voxels"),
        (volume_file, "yolo", "a YOLO label file holds a picture"),
        (volume_file, "dicom-seg", "read as nifti, and a DICOM SEG refers to DICOM instances"),
        (volume_file, "dicom-sr", "read as nifti, and a DICOM S(R|EG) refers to DICOM instances"),
        (lambda folder: volume_file(folder, 0.3), "metaimage", "sheared .gantry tilt., which a MetaImage does not hold"),
    ],
)
def test_formats_that_do_not_fit_are_refused_before_a_scan_is_segmented(tmp_path, write, format, message):
    scan = Scan("a", (write(tmp_path / "in"),))
    job = told_apart() if not message else predictor(never)
    [outcome] = segment_scans(job, [scan], tmp_path / "out", [format], task="semantic")
    assert re.search(message, outcome.error)
    assert bool(outcome.files) == (not message)


def test_a_sheared_grid_fits_no_metaimage(tmp_path):
    sheared = np.eye(4)
    sheared[0, 2] = 0.3
    labels = LabelMap(
        np.ones((1, 2, 2, 2), np.uint8), Geometry((2, 2, 2), sheared), TABLE, instances=np.ones((1, 2, 2, 2), np.uint32)
    )
    with pytest.raises(ExportError, match=r"sheared.*\.nrrd"):
        write_id_map(format_named("metaimage"), labels, tmp_path / "a.mha")
    assert list(tmp_path.iterdir()) == []
    assert read_ids(write_id_map(format_named("nrrd"), labels, tmp_path / "a.nrrd"))[1].same_grid(labels.geometry)


def map_of(ids, layers=1):
    array = np.zeros((layers, *np.shape(ids)[-2:]), np.uint32)
    array[:] = ids
    classes = np.where(array > 0, 2, 0).astype(np.uint8)
    return LabelMap(classes, Geometry(classes.shape[1:]), TABLE, instances=array)


def test_ids_beyond_16_bits(tmp_path):
    labels = map_of(np.array([[0, 70000], [1, 2]]))
    with pytest.raises(ExportError, match=r"70000 do not fit the 16 bits of a PNG.*nii"):
        write_id_map(format_named("png"), labels, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
    file = write_id_map(format_named("nifti"), labels, tmp_path / "a.nii.gz")
    image = nib.load(file)
    assert image.get_data_dtype() == np.uint32
    assert np.asarray(image.dataobj)[:, :, 0].T.tolist() == [[0, 70000], [1, 2]]


def test_objects_that_overlap_fit_no_map_of_ids(tmp_path):
    apart = map_of(np.array([[[0, 1]], [[2, 0]]]), 2)
    file = write_id_map(format_named("png"), apart, tmp_path / "a.png")
    assert np.array(Image.open(file)).tolist() == [[2, 1]]
    with pytest.raises(ExportError, match="objects overlap"):
        write_id_map(format_named("png"), map_of(np.array([[[1, 1]], [[2, 0]]]), 2), tmp_path / "a.png")


def test_a_png_holds_no_volume(tmp_path):
    grid = Geometry.from_spacing((2, 2, 2), (1, 1, 1))
    labels = LabelMap(np.zeros((1, 2, 2, 2), np.uint8), grid, TABLE, instances=np.zeros((1, 2, 2, 2), np.uint32))
    with pytest.raises(ExportError, match=r"does not hold.*nifti"):
        write_id_map(format_named("png"), labels, tmp_path / "a.png")


def loaded(instances):
    plan = tiny_plan(2)
    plan = (
        plan.model_copy(update={"instances": InstancePlan(labels=("nucleus",), decoder="components", diameter=5)})
        if instances
        else plan
    )
    return Predictor(tiny_model(plan, TABLE), "cpu", PredictOptions(mixed_precision="off"))


@pytest.mark.parametrize(("decoder", "task"), [(None, "semantic"), ("components", "semantic"), ("watershed", "panoptic")])
def test_only_an_instance_head_makes_panoptic_results_the_default(decoder, task):
    instances = None if decoder is None else InstancePlan(labels=("nucleus",), decoder=decoder, diameter=5)
    assert default_task(tiny_plan(2).model_copy(update={"instances": instances})) == task


@pytest.mark.parametrize("instances", [True, False])
def test_the_verb_takes_the_task_of_the_model_or_the_one_that_is_asked_for(tmp_path, instances):
    model, picture = loaded(instances), picture_file(tmp_path / "in")
    [outcome] = vx.predict(model, picture, tmp_path / "out", formats=["png"])
    assert (outcome.error, set(outcome.files)) == ("", {"png"})
    [outcome] = vx.predict(model, picture, tmp_path / "objects", formats=["png"], task="panoptic")
    assert (outcome.error, set(outcome.files)) == ("", {"png", "segments"})


def test_a_prediction_of_the_model_and_its_files_agree(tmp_path):
    model, file = loaded(True), picture_file(tmp_path / "in")
    vx.predict(model, file, tmp_path / "out", task="panoptic", formats=["png"])
    prediction = model.predict(picture(np.array(Image.open(file))[None]))
    rows = json.loads((tmp_path / "out" / "a.json").read_text())["segments_info"]
    assert rows == [json.loads(json.dumps(row.as_dict())) for row in prediction.segments_info]


def test_entries_of_ids_that_are_not_listed_are_an_error(tmp_path):
    out, _ = run(tmp_path, "instance")
    content = json.loads((out / "a.json").read_text())
    (out / "a.json").write_text(json.dumps(content | {"segments_info": content["segments_info"][:1]}))
    with pytest.raises(vx.VoxelryError, match="ids 2, 3 are not listed beside it"):
        read_labels(out / "a.png")
    (out / "a.json").write_text(json.dumps(content | {"segments_info": [{"id": 1}]}))
    with pytest.raises(vx.VoxelryError, match="no segments_info of id and label_id"):
        read_labels(out / "a.png")


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"id_maps": ["b.png"]}', '{"id_maps": 3}'])
def test_a_file_of_another_program_is_no_file_of_segments(tmp_path, text):
    out, _ = run(tmp_path, "instance")
    (out / "a.json").write_text(text)
    assert read_labels(out / "a.png").instances is None
