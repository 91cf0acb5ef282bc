"""Structure sets as labels, on plain, oblique and tilted series; written by hand, and read by plastimatch too."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from skimage.measure import points_in_poly as inside_of

from helpers.structures import FRAME, code, contour, drawn, image_item, referenced_space, structure_set
from voxelry.core.geometry import flip_lps_ras
from voxelry.core.labels import Label, LabelTable
from voxelry.errors import CorruptFileError, GridMismatchError, LabelError, MissingFileError, SelectionError, UsageError
from voxelry.formats.reader import read, read_labels

ANGLE = np.deg2rad(25)
OBLIQUE = (np.cos(ANGLE), np.sin(ANGLE), 0.0, 0.0, 0.0, -1.0)
SQUARE = np.array([(1.5, 0.5), (5.5, 0.5), (5.5, 3.5), (1.5, 3.5)])


@pytest.fixture(params=["axial", "oblique", "tilted"])
def scan(request, ramp, folder, make_series):
    orientation = OBLIQUE if request.param == "oblique" else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    slices = make_series(ramp, orientation=orientation)
    if request.param == "tilted":
        for index, plane in enumerate(slices):
            plane.ImagePositionPatient[1] = f"{float(plane.ImagePositionPatient[1]) + 0.6 * index:.6f}"
            plane.GantryDetectorTilt = 13.5
    return read(folder(slices))


@pytest.fixture
def plain_scan(plain, folder):
    return read(folder(plain))


def expected_of(scan, polygon, places):
    mask = np.zeros(scan.geometry.shape, dtype=bool)
    grid = np.argwhere(np.ones(scan.geometry.shape[:2], dtype=bool))
    inside = inside_of(grid, polygon).reshape(scan.geometry.shape[:2])
    for place in places:
        mask[:, :, place] = inside
    return mask


def test_contours_land_on_their_slices(scan, tmp_path):
    triangle = np.array([(0.3, 0.2), (7.4, 1.1), (2.2, 5.3)])
    rois = [("liver", (10, 20, 30), [drawn(scan, triangle, place, 0.01) for place in (1, 2, 4)])]
    found = read_labels(structure_set(tmp_path / "series" / "rt", rois))
    assert found.geometry.same_grid(scan.geometry)
    np.testing.assert_array_equal(found.array == 1, expected_of(scan, triangle, (1, 2, 4)))
    assert found.table.labels[0].color == (10, 20, 30)
    assert found.source.kind == "rtstruct"
    assert found.source.instances == scan.source.instances


def test_names_codes_colours_and_empty_structures(plain_scan, tmp_path):
    kind = code("64033007", "Kidney")
    kind.SegmentedPropertyTypeModifierCodeSequence = [code("7771000", "Left")]
    rois = [
        ("Niere\x07 links ", (1, 2, 3), [drawn(plain_scan, SQUARE, 1)]),
        ("Empty", None, []),
        ("x", (300, 0, 0), [drawn(plain_scan, SQUARE, 3)]),
        ("x", None, [drawn(plain_scan, SQUARE, 2)]),
    ]
    path = structure_set(tmp_path / "rt" / "rt.dcm", rois, codes={"Niere\x07 links ": kind})
    found = read_labels(path)  # the series lies in the folder beside
    assert found.table.names == ("Niere links", "Empty", "x 3", "x 4")
    first = found.table.labels[0]
    assert (first.type.value, first.modifier.meaning, first.color) == ("64033007", "Left", (1, 2, 3))
    assert found.table.labels[2].color is None
    assert [int(found.mask(name).sum()) for name in found.table.names] == [12, 0, 12, 12]
    assert "structure 'Empty': no contours: empty" in found.source.remarks


def test_structures_that_overlap_lie_on_layers(plain_scan, tmp_path):
    rois = [("body", None, [drawn(plain_scan, SQUARE, 1)]), ("organ", None, [drawn(plain_scan, SQUARE[:3], 1)])]
    path = structure_set(tmp_path / "series" / "rt", rois)
    found = read_labels(path)
    assert len(found.layers) == 2
    assert found.mask("body").sum() > found.mask("organ").sum() > 0
    table = LabelTable(labels=(Label(value=7, name="ORGAN"),))
    mapped = read_labels(path, table)
    np.testing.assert_array_equal(mapped.array == 7, found.mask("organ"))
    assert any("left out: body" in remark for remark in mapped.source.remarks)
    flat = LabelTable(labels=(Label(value=1, name="body"), Label(value=2, name="organ")))
    with pytest.raises(LabelError, match="'organ' overlaps"):
        read_labels(path, flat)
    with pytest.raises(LabelError, match=r"none of its structures \(body, organ\).*Did you mean 'bodies'"):
        read_labels(path, LabelTable(labels=(Label(value=1, name="bodies"),)))


def test_a_table_finds_structures_by_code(plain_scan, tmp_path):
    path = structure_set(
        tmp_path / "series" / "rt", [("Leber", None, [drawn(plain_scan, SQUARE, 1)])], codes={"Leber": code("10200004", "Liver")}
    )
    table = LabelTable(labels=(Label(value=5, name="liver", type={"value": "10200004", "meaning": "liver structure"}),))
    assert set(np.unique(read_labels(path, table).array)) == {0, 5}


def test_points_and_open_lines_enclose_nothing(plain_scan, tmp_path):
    one = drawn(plain_scan, SQUARE, 1)
    open_line, point = drawn(plain_scan, SQUARE, 2), drawn(plain_scan, SQUARE[:1], 2)
    open_line.ContourGeometricType, point.ContourGeometricType = "OPEN_PLANAR", "POINT"
    found = read_labels(structure_set(tmp_path / "series" / "rt", [("a", None, [open_line, one, point])]))
    assert found.array.sum() == 12
    assert "structure 'a': 1 contours of type OPEN_PLANAR enclose nothing" in found.source.remarks


def test_contours_between_the_centres_of_voxels_are_told(plain_scan, tmp_path):
    small = drawn(plain_scan, np.array([(1.2, 1.2), (1.4, 1.2), (1.4, 1.4)]), 1)
    found = read_labels(structure_set(tmp_path / "series" / "rt", [("a", None, [small])]))
    assert not found.array.any()
    assert "structure 'a': its contours enclose no voxel: empty" in found.source.remarks


def test_slices_without_a_contour_between_others_are_told(plain_scan, tmp_path):
    rois = [("every other", None, [drawn(plain_scan, SQUARE, place) for place in (0, 2, 4)])]
    found = read_labels(structure_set(tmp_path / "series" / "rt", rois))
    assert found.array.sum() == 3 * 12
    assert "structure 'every other': no contour on 2 slices between others: empty there" in found.source.remarks


def test_a_contour_between_slices_is_refused_and_one_near_is_taken(plain_scan, tmp_path):
    path = structure_set(tmp_path / "series" / "rt", [("a", None, [drawn(plain_scan, SQUARE, 1, 0.2)])])
    found = read_labels(path)
    assert found.array[:, :, 1].sum() == 12
    assert "structure 'a': contours up to 0.2 slices off their slice" in found.source.remarks
    structure_set(path, [("a", None, [drawn(plain_scan, SQUARE, 1, 0.5)])])
    with pytest.raises(GridMismatchError, match=r"rt: a contour of structure 'a' lies at slice 1\.5 of 0\.\.4"):
        read_labels(path)
    structure_set(path, [("a", None, [drawn(plain_scan, SQUARE, 9)])])
    with pytest.raises(GridMismatchError, match="at slice 9 of"):
        read_labels(path)
    lifted = np.column_stack([SQUARE, [1, 1, 3, 3]])
    structure_set(path, [("a", None, [contour(flip_lps_ras(plain_scan.geometry.world(lifted)))])])
    with pytest.raises(GridMismatchError, match="runs across 2 slices"):
        read_labels(path)


def test_the_reference_by_path_by_volume_and_missing(plain_scan, tmp_path):
    rois = [("a", None, [drawn(plain_scan, SQUARE, 1)])]
    path = structure_set(tmp_path / "far" / "away" / "rt", rois)
    for reference in (plain_scan, tmp_path / "series"):
        assert read_labels(path, reference=reference).array.sum() == 12
    with pytest.raises(MissingFileError, match="not beside it"):
        read_labels(path)
    for file in sorted((tmp_path / "series").iterdir())[:3]:
        data = dcmread(file)
        data.SeriesInstanceUID, data.SOPInstanceUID = "1.2.7", generate_uid()
        data.save_as(tmp_path / "series" / f"other-{file.name}")
    assert read_labels(path, reference=tmp_path / "series").array.sum() == 12
    with pytest.raises(MissingFileError, match="names no series"):
        read_labels(structure_set(path, rois, series=""))
    with pytest.raises(GridMismatchError, match=r"frame of reference \(1\.2\.3\)"):
        read_labels(structure_set(path, rois, series="1.2.9", frame="1.2.3"), reference=plain_scan)
    other = read_labels(structure_set(path, rois, series="1.2.9"), reference=plain_scan)
    assert "drawn on another series than the reference, in one frame of reference" in other.source.remarks
    with pytest.raises(UsageError, match="reference is for RTSTRUCT"):
        read_labels(tmp_path / "series" / "IM000.dcm", reference=plain_scan)
    with pytest.raises(UsageError, match="threshold"):
        read_labels(path, reference=plain_scan, threshold=0.5)


def test_damage_is_named(plain_scan, tmp_path):
    path = structure_set(tmp_path / "series" / "rt", [("a", None, [drawn(plain_scan, SQUARE, 1)])])
    bad = drawn(plain_scan, SQUARE, 1)
    bad.ContourData = ["1", "2"]
    with pytest.raises(CorruptFileError, match=r"rt: structure 'a': contour 1 has 2 coordinates"):
        read_labels(structure_set(path, [("a", None, [bad])]))
    structure_set(path, [("a", None, [bad]), ("b", None, [drawn(plain_scan, SQUARE, 1)])])
    only = read_labels(path, LabelTable(labels=(Label(value=3, name="b"),)))
    assert only.mask("b").sum() == 12  # what is sound can be read
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptFileError, match="rt: cannot be read as a structure set"):
        read_labels(path, reference=plain_scan)


OTHER = "1.2.826.0.1.3680043.8.498.77"


def in_frame(*frames):
    """Give each structure a frame of reference of its own."""

    def change(data):
        for roi, frame in zip(data.StructureSetROISequence, frames, strict=True):
            roi.ReferencedFrameOfReferenceUID = frame

    return change


def two(scan):
    return [("a", None, [drawn(scan, SQUARE, 1)]), ("b", None, [drawn(scan, SQUARE, 2)])]


def test_a_structure_in_another_frame_of_reference_is_left_out(plain_scan, tmp_path):
    def change(data):
        in_frame(FRAME, OTHER)(data)
        data.ReferencedFrameOfReferenceSequence.insert(0, referenced_space("1.2.7", OTHER))

    path = structure_set(tmp_path / "series" / "rt", two(plain_scan), change=change)
    for found in (read_labels(path), read_labels(path, reference=plain_scan), read_labels(path, reference=tmp_path / "series")):
        assert found.table.names == ("a",)
        assert found.mask("a").sum() == 12
        assert f"structure 'b' is left out: it lies in another frame of reference ({OTHER})" in found.source.remarks
    nowhere = replace(plain_scan, source=replace(plain_scan.source, frame_of_reference=""))
    with pytest.raises(GridMismatchError, match=r"lie in 2 frames of reference.*does not say in which"):
        read_labels(path, reference=nowhere)
    table = LabelTable(labels=(Label(value=4, name="b"),))
    assert read_labels(path, table, reference=nowhere).mask("b").sum() == 12
    with pytest.raises(GridMismatchError, match="its frame of reference"):
        read_labels(path, table, reference=plain_scan)


def test_images_that_contours_name_tell_the_frame_of_reference(plain_scan, tmp_path):
    """Of a structure without one, and of one that contradicts the slices that its contours name."""
    instances = [instance[0] for instance in plain_scan.source.instances]

    def change(data):
        in_frame("", OTHER)(data)
        data.ReferencedFrameOfReferenceSequence = [
            referenced_space("1.2.7", OTHER, ["1.2.7.1"]),
            referenced_space(plain_scan.source.series_uid, FRAME, instances),
        ]
        first, second = (item.ContourSequence[0] for item in data.ROIContourSequence)
        first.ContourImageSequence = [image_item("1.2.7.1")]
        second.ContourImageSequence = [image_item(instances[2])]

    path = structure_set(tmp_path / "rt", two(plain_scan), change=change)
    found = read_labels(path, reference=plain_scan)
    assert found.table.names == ("b",)
    assert [text.partition(":")[0] for text in found.source.remarks[:2]] == [
        "structure 'a' is left out",
        f"structure 'b' states another frame of reference ({OTHER}) than the slices that it names have",
    ]


def test_a_structure_of_no_frame_of_reference_among_several(plain_scan, tmp_path):
    def change(data):
        in_frame(FRAME, "")(data)
        data.ReferencedFrameOfReferenceSequence.append(referenced_space("1.2.7", OTHER))

    found = read_labels(structure_set(tmp_path / "rt", two(plain_scan), change=change), reference=plain_scan)
    assert found.mask("b").sum() == 12
    assert "structure 'b' states no frame of reference: its coordinates are taken for the image's" in found.source.remarks


def test_of_several_referenced_series_the_one_that_is_drawn_on_is_taken(plain_scan, tmp_path):
    """By the frame of reference of the structures, then by the images that contours name; else it is refused."""
    for file in sorted((tmp_path / "series").iterdir()):
        data = dcmread(file)
        data.SeriesInstanceUID, data.SOPInstanceUID = "1.2.7", f"1.2.7.{data.InstanceNumber}"
        data.save_as(tmp_path / "series" / f"other-{file.name}")
    instances = [instance[0] for instance in plain_scan.source.instances]
    others = [f"1.2.7.{number}" for number in range(9)]

    def listing(frame, name=None):
        def change(data):
            data.ReferencedFrameOfReferenceSequence = [
                referenced_space("1.2.7", frame, others),
                referenced_space(plain_scan.source.series_uid, FRAME, instances),
            ]
            if name:
                data.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [image_item(name)]

        return change

    for change in (listing(OTHER), listing(FRAME, instances[1])):
        path = structure_set(tmp_path / "series" / "rt", two(plain_scan), change=change)
        for found in (read_labels(path), read_labels(path, reference=tmp_path / "series")):
            assert found.source.series_uid == plain_scan.source.series_uid
            assert not found.source.remarks
    path = structure_set(tmp_path / "series" / "rt", two(plain_scan), change=listing(FRAME, others[2]))
    assert read_labels(path).source.series_uid == "1.2.7"
    path = structure_set(tmp_path / "series" / "rt", two(plain_scan), change=listing(FRAME))
    for reference in (None, tmp_path / "series"):
        with pytest.raises(SelectionError, match=r"drawn on one of several series \(.*1\.2\.7"):
            read_labels(path, reference=reference)
    assert read_labels(path, reference=plain_scan).mask("a").sum() == 12


def test_a_contour_that_names_another_slice_stays_where_its_coordinates_are(plain_scan, tmp_path):
    instances = [instance[0] for instance in plain_scan.source.instances]

    def naming(*uids):
        def change(data):
            data.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [image_item(uid) for uid in uids]

        return change

    remark = "structure 'a': 1 contours name another image than the slice that they lie on: their coordinates count"
    for uids, told in (
        ((instances[1],), False),
        ((instances[1], instances[2]), False),
        ((instances[3],), True),
        (("1.2.9",), True),
    ):
        found = read_labels(structure_set(tmp_path / "series" / "rt", two(plain_scan)[:1], change=naming(*uids)))
        assert found.array[:, :, 1].sum() == 12
        assert (remark in found.source.remarks) == told


def test_exclusive_contours(plain_scan, tmp_path):
    inner = SQUARE + np.array((1, 1))
    squares = [drawn(plain_scan, points, 1) for points in (SQUARE, inner)]
    for item in squares:
        item.ContourGeometricType = "CLOSEDPLANAR_XOR"
    expected = expected_of(plain_scan, SQUARE, [1]) ^ expected_of(plain_scan, inner, [1])
    path = structure_set(tmp_path / "series" / "rt", [("a", None, squares)])
    found = read_labels(path)
    np.testing.assert_array_equal(found.mask("a"), expected)
    assert not found.source.remarks
    squares[0].ContourGeometricType = "CLOSED_PLANAR"
    found = read_labels(structure_set(path, [("a", None, squares)]))
    np.testing.assert_array_equal(found.mask("a"), expected)
    assert found.source.remarks == (
        "structure 'a': contours of type CLOSEDPLANAR_XOR and others on 1 slices: all combined by exclusive or",
    )
    found = read_labels(structure_set(path, [("a", None, [squares[1], squares[1], drawn(plain_scan, SQUARE, 2)])]))
    np.testing.assert_array_equal(found.mask("a"), expected_of(plain_scan, SQUARE, [2]))
    assert "structure 'a': 1 contours of type CLOSEDPLANAR_XOR are there twice, and cancel each other" in found.source.remarks


def test_structures_that_one_label_takes_are_told(plain_scan, tmp_path):
    kind = code("10200004", "Liver")
    path = structure_set(tmp_path / "series" / "rt", two(plain_scan), codes={"a": kind, "b": kind})
    found = read_labels(path, LabelTable(labels=(Label(value=5, name="liver", type={"value": "10200004", "meaning": "x"}),)))
    assert found.array.sum() == 5 * 24
    assert "structures a, b are joined as 'liver'" in found.source.remarks


@pytest.fixture(scope="module")
def plastimatch():
    program = shutil.which("plastimatch")
    if program is None:
        import sys
        from pathlib import Path

        beside = Path(sys.executable).with_name("plastimatch")
        if not beside.exists():
            pytest.skip("plastimatch is not installed")
        program = str(beside)
    return program


def test_as_plastimatch_reads_it(plastimatch, plain_scan, tmp_path):
    """Shapes along voxel edges, read by both; plastimatch needs its own grid's order turned to ours."""
    rois = [("first", (255, 0, 0), [drawn(plain_scan, SQUARE, place) for place in range(5)])]
    instances = [pair[0] for pair in plain_scan.source.instances]
    path = structure_set(tmp_path / "rt.dcm", rois, instances=instances)
    command = [plastimatch, "convert", "--input", path, "--referenced-ct", tmp_path / "series"]
    command += ["--output-prefix", tmp_path / "pm", "--prefix-format", "nii.gz"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False)
    files = list((tmp_path / "pm").glob("*.nii.gz"))
    assert files, done.stdout + done.stderr
    theirs = nibabel.load(files[0])
    ours = read_labels(path)
    world = ours.geometry.world(np.argwhere(ours.array))
    expected = nibabel.affines.apply_affine(theirs.affine, np.argwhere(np.asarray(theirs.dataobj) > 0))
    np.testing.assert_allclose(sorted(map(tuple, world.round(2))), sorted(map(tuple, expected.round(2))), atol=0.02)


@pytest.mark.realdata
def test_real_structure_sets(realdata):
    folder = realdata / "dicom" / "dev" / "rtutils_rtstruct" / "tests" / "mock_data"
    found = read_labels(folder / "rt.dcm")
    assert found.table.names == ("ROI-1",)
    assert found.array.sum() == 1443
    for name, kind in (("invalid_reference_rt.dcm", GridMismatchError), ("non_existent_reference_rt.dcm", MissingFileError)):
        with pytest.raises(kind, match=name):
            read_labels(folder / name)
