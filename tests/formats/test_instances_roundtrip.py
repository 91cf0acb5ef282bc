"""Instance ids through every format: written, read back, converted and converted back."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import voxelry as vx
from helpers import sources
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, LabelError, UsageError
from voxelry.formats.table import written_formats

LESION = Label(value=2, name="lesion", kind="thing", type=Code(value="52988006", meaning="Lesion"))
THINGS = [Label(value=value, name=name, kind="thing") for value, name in ((7, "cyst"), (9, "none"))]
TABLE = LabelTable(labels=(Label(value=3, name="liver"), LESION, *THINGS))
GRIDS = (".nii.gz", ".nii", ".nrrd", ".mha")
VOLUMES = (*GRIDS, ".seg.nrrd")
PICTURES = (".png", ".tif", ".nii.gz", ".nrrd", ".mha", ".coco.json")
LARGEST = 2**32 - 1


def objects(grid, scale=1):
    """Touching, nested, in two parts, of one voxel, at a corner, and a lesion whose voxels have no id."""
    layers, ids = np.zeros((1, *grid.shape), np.uint8), np.zeros((1, *grid.shape), np.uint32)
    last = (slice(0, 3),) if len(grid.shape) == 3 else ()
    for value, id, box in (
        (3, 0, np.s_[:, 8:]), (2, 70000 * scale + 1, np.s_[0:4, 0:3]), (2, 5, np.s_[4:7, 0:3]), (7, 9, np.s_[1:8, 3:7]),
        (2, 8, np.s_[3:5, 4:6]), (2, 3, np.s_[0, 7]), (7, 4, np.s_[9, 0]), (7, 4, np.s_[9, 2]), (2, 0, np.s_[8:10, 4:6]),
    ):  # fmt: skip
        layers[0][(*box, *last)], ids[0][(*box, *last)] = value, id
    layers[0].flat[-1], ids[0].flat[-1] = 2, (LARGEST if scale else 11)
    return LabelMap(layers, grid, TABLE, instances=ids)


def partition(labels):
    """Label name and id -> voxels, as bytes."""
    cells = {}
    for label in labels.table.labels:
        mask = labels.layers[label.layer] == label.value
        ids = (
            labels.instances[label.layer]
            if labels.instances is not None and label.kind == "thing"
            else np.zeros(mask.shape, np.uint32)
        )
        cells |= {(label.name, int(id)): (mask & (ids == id)).tobytes() for id in np.unique(ids[mask])}
    return cells


def equal(back, made):
    assert back.instances is not None
    assert back.instances.dtype == np.uint32
    assert partition(back) == partition(made)
    return True


GRID = Geometry.from_spacing((11, 10, 5), (0.8, 0.9, 3))
FLAT = Geometry((11, 10))


@pytest.mark.parametrize("ending", VOLUMES)
def test_volumes(tmp_path, ending):
    made = objects(GRID)
    path = vx.write(made, tmp_path / f"a{ending}")
    back = vx.read_labels(path)
    table = None if ending != ".mha" else TABLE
    assert equal(vx.read_labels(path, table) if table else back, made)
    assert {label.kind for label in back.table.labels if label.name in ("lesion", "cyst", "label_2", "label_7")} == {"thing"}
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ([f"a{ending}", f"a_instances{ending}"] if ending in GRIDS else [f"a{ending}"])


@pytest.mark.parametrize("ending", PICTURES)
def test_pictures(tmp_path, ending):
    made = objects(FLAT, scale=0 if ending == ".png" else 1)
    back = vx.read_labels(vx.write(made, tmp_path / f"a{ending}"), None if ending in (".coco.json", ".nii.gz") else TABLE)
    assert equal(back, made)


@pytest.mark.parametrize("kind", ["oblique", "anisotropic", "sagittal"])
@pytest.mark.parametrize("ending", [".seg.dcm", ".rtstruct.dcm", ".nii.gz", ".seg.nrrd", ".nrrd", ".mha"])
def test_on_the_grid_of_a_scan(tmp_path, kind, ending):
    scan = sources.volume(kind, tmp_path)
    made = objects(scan.geometry)
    path = vx.write(made, tmp_path / f"a{ending}", source=scan)
    back = vx.read_labels(path, TABLE, **({"reference": scan} if "rtstruct" in ending else {}))
    assert equal(back.on_grid(scan.geometry), made)
    own = vx.read_labels(path, **({"reference": scan} if "rtstruct" in ending else {}))
    assert sorted(np.unique(own.instances).tolist()) == sorted(np.unique(made.instances).tolist())


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_tracking_is_kept_and_equal_for_equal_objects(tmp_path, kind):
    scan = sources.volume("axial", tmp_path)
    made = objects(scan.geometry)
    write = written_formats()["dicom-seg"].write
    first, again = (write(made, tmp_path / f"{name}.seg.dcm", scan, {"kind": kind}) for name in "ab")
    one, other = (vx.read_labels(path) for path in (first, again))
    assert one.source.tracking == other.source.tracking
    assert {id for id, _, _ in one.source.tracking} == set(np.unique(made.instances).tolist()) - {0}
    assert len({uid for *_, uid in one.source.tracking}) == len(one.source.tracking)
    moved = replace(made, layers=np.roll(made.layers, 1, axis=1), instances=np.roll(made.instances, 1, axis=1))
    third = vx.read_labels(write(moved, tmp_path / "c.seg.dcm", scan, {"kind": kind}))
    assert {uid for *_, uid in third.source.tracking}.isdisjoint({uid for *_, uid in one.source.tracking})
    changed = replace(one.on_grid(scan.geometry), source=replace(one.source, tracking=((5, "target 5", "1.2.3"),)))
    fourth = vx.read_labels(write(changed, tmp_path / "d.seg.dcm", scan, {"kind": kind}))
    assert (5, "target 5", "1.2.3") in fourth.source.tracking
    assert set(fourth.source.tracking) - {(5, "target 5", "1.2.3")} <= set(one.source.tracking)


@pytest.mark.parametrize("middle", [".seg.dcm", ".rtstruct.dcm", ".seg.nrrd", ".nrrd", ".mha"])
def test_converted_there_and_back(tmp_path, middle):
    scan = sources.volume("oblique", tmp_path)
    made = objects(scan.geometry)
    first = vx.write(made, tmp_path / "a.nii.gz")
    (tmp_path / "names.yaml").write_text("2: lesion\n3: liver\n7: cyst\n9: none\n")
    there = vx.convert(first, tmp_path / f"b{middle}", reference=tmp_path / "source-oblique")
    back = vx.convert(there.path, tmp_path / "c.nii.gz", reference=tmp_path / "source-oblique")
    read = vx.read_labels(back.path)
    np.testing.assert_array_equal(read.on_grid(scan.geometry).instances, made.instances)
    assert not [remark for remark in (*there.remarks, *back.remarks) if "instance ids" in remark or "have no ids" in remark]


def test_pictures_converted_there_and_back(tmp_path):
    made = objects(FLAT)
    first = vx.write(made, tmp_path / "a.tif")
    for number, ending in enumerate((".coco.json", ".nii.gz", ".tif", ".yolo.txt")):
        first = vx.convert(first, tmp_path / f"{number}{ending}").path
        if ending != ".yolo.txt":
            np.testing.assert_array_equal(vx.read_labels(first).instances, made.instances)
    image = Volume(np.zeros((1, *FLAT.shape), np.uint8), FLAT)
    back = vx.read_labels(first, reference=image)  # ids are those of lines, a region without an id is an object too
    assert len(set(partition(back).values())) == len(partition(made)) - 1 + 1
    assert set(partition(back).values()) >= {cells for (name, id), cells in partition(made).items() if id}


@given(st.integers(0, 2**32 - 1), st.sampled_from([".nii", ".nrrd", ".mha", ".seg.nrrd"]))
@settings(max_examples=30, deadline=None)
def test_any_partition_and_any_ids(tmp_path_factory, seed, ending):
    rng = np.random.default_rng(seed)
    ids = rng.choice(rng.integers(1, 2**32, 6, dtype=np.uint32), (5, 4, 3)).astype(np.uint32)
    ids[rng.random(ids.shape) < 0.4] = 0
    classes = np.where(ids > 0, np.where(ids % 2 == 0, 2, 7), 3 * (rng.random(ids.shape) < 0.5)).astype(np.uint8)
    made = LabelMap(classes[None], Geometry.from_spacing(ids.shape, (1, 2, 3)), TABLE, instances=ids[None])
    back = vx.read_labels(vx.write(made, tmp_path_factory.getbasetemp() / f"p{ending}"), TABLE)
    assert equal(back, made)


@pytest.mark.parametrize("ending", VOLUMES)
def test_no_objects(tmp_path, ending):
    made = objects(GRID)
    none = replace(made, layers=np.where(made.layers == 3, 3, 0).astype(np.uint8), instances=np.zeros_like(made.instances))
    back = vx.read_labels(vx.write(none, tmp_path / f"a{ending}"), TABLE)
    assert not back.instances.any()
    np.testing.assert_array_equal(back.layers, none.layers)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".seg.nrrd"])
@pytest.mark.parametrize("told_apart", [True, False])
def test_things_stay_things_without_objects(tmp_path, ending, told_apart):
    made = objects(GRID)
    none = np.where(made.layers == 3, 3, 0).astype(np.uint8)
    empty = replace(made, layers=none, instances=np.zeros_like(made.instances) if told_apart else None)
    truth, guess = (vx.write(labels, tmp_path / name / f"a{ending}") for name, labels in (("r", empty), ("p", made)))
    kinds = [(label.name, label.kind) for label in TABLE.labels]
    assert [(label.name, label.kind) for label in vx.read_labels(truth).table.labels] == kinds
    rows = {row["label"]: row for row in vx.evaluate(truth, guess, metrics=("panoptic",)).rows()}
    assert rows["lesion"]["panoptic_fp"] == len(np.unique(made.instances[made.layers == 2])) - 1


def many(count=70_000):
    side = 2 * int(np.ceil(count ** (1 / 3))) + 1
    ids = np.zeros((side,) * 3, np.uint32)
    inner = ids[::2, ::2, ::2]
    order = np.random.default_rng(1).permutation(inner.size)
    inner.flat[order[:count]] = np.arange(1, count + 1)
    return LabelMap((ids > 0).astype(np.uint8)[None] * 2, Geometry.from_spacing(ids.shape, (1, 1, 1)), TABLE, instances=ids[None])


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_70000_objects(tmp_path, ending):
    made = many()
    np.testing.assert_array_equal(vx.read_labels(vx.write(made, tmp_path / f"a{ending}")).instances, made.instances)


def many_of_a_picture():
    ids = np.zeros((530, 530), np.uint32)
    ids[::2, ::2].flat[:70_000] = np.random.default_rng(0).permutation(70_000) + 1
    return LabelMap((ids > 0).astype(np.uint8)[None] * 2, Geometry(ids.shape), TABLE, instances=ids[None])


@pytest.mark.parametrize("ending", [".tif", ".nii.gz", pytest.param(".coco.json", marks=pytest.mark.slow)])
def test_70000_objects_of_a_picture(tmp_path, ending):
    made = many_of_a_picture()
    np.testing.assert_array_equal(vx.read_labels(vx.write(made, tmp_path / f"a{ending}")).instances, made.instances)


def test_more_objects_than_a_png_can_number(tmp_path):
    made = many_of_a_picture()
    with pytest.raises(ExportError, match=r"/a\.png: ids up to 70000 do not fit the 16 bits of a PNG.*\.tif"):
        vx.write(made, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_more_objects_than_a_format_can_number(tmp_path):
    made = many()
    with pytest.raises(LabelError, match=r"70003 labels and instances.*\.nii\.gz"):
        vx.write(made, tmp_path / "a.seg.nrrd")
    assert not list(tmp_path.iterdir())


def test_edited_labels_come_without_ids_and_say_so(tmp_path):
    made = objects(FLAT, scale=0)
    path = vx.write(made, tmp_path / "a.png")
    with Image.open(path) as image:
        pixels, about = np.array(image), image.text
    assert "voxelry-instances" in about["Comment"]
    beside = tmp_path / "a_instances.png"
    ids = beside.read_bytes()
    beside.unlink()
    assert "a_instances.png: no such file" in vx.read_labels(path).source.remarks[-1]
    vx.write(replace(made, instances=None), tmp_path / "a_instances.png")
    assert "not of these labels" in vx.read_labels(path).source.remarks[-1]
    beside.write_bytes(ids)
    assert vx.read_labels(path).instances is not None
    pixels[0, 0] = 7
    from PIL.PngImagePlugin import PngInfo

    record = PngInfo()
    record.add_text("Comment", about["Comment"])
    Image.fromarray(pixels).save(path, pnginfo=record)
    edited = vx.read_labels(path)
    assert edited.instances is None
    assert "were changed" in edited.source.remarks[-1]
    vx.write(replace(made, instances=None), path)
    assert vx.read_labels(path).source.remarks == ("no physical size: DPI is not one",)


def test_ids_are_no_mask_and_no_scan_of_their_own(tmp_path):
    for name in "ab":
        vx.write(objects(GRID), tmp_path / "one" / f"{name}.nii.gz")
        vx.write(objects(GRID), tmp_path / "two" / f"{name}.nii.gz")
    assert vx.evaluate(tmp_path / "one", tmp_path / "two").cases == ("a", "b")


def test_neither_file_is_replaced_where_one_cannot_be(tmp_path, monkeypatch):
    path = vx.write(objects(GRID), tmp_path / "a.nii.gz")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    from pathlib import Path

    real = Path.replace

    def fails(self, target):
        if Path(target).name == "a.nii.gz":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        vx.write(objects(GRID, scale=2), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(OSError, match="No space"):
        vx.write(objects(GRID), path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_user_is_never_replaced(tmp_path):
    first = vx.write(objects(GRID), tmp_path / "a.nii.gz")
    (tmp_path / "b_instances.mha").write_text("mine")
    with pytest.raises(UsageError, match="b_instances"):
        vx.convert(first, tmp_path / "b.mha")
    assert (tmp_path / "b_instances.mha").read_text() == "mine"
    assert not (tmp_path / "b.mha").exists()


def test_a_format_without_instances_says_so(tmp_path):
    scan = sources.volume("axial", tmp_path)
    first = vx.write(objects(scan.geometry), tmp_path / "a.nii.gz")
    result = vx.convert(first, tmp_path / "b.sc", reference=tmp_path / "source-axial")
    assert any("instance ids" in remark for remark in result.remarks)
