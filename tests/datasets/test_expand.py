import json
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxelry.datasets.cases import parse_cases
from voxelry.datasets.expand import expand, is_below
from voxelry.datasets.file_patterns import matching_files
from voxelry.errors import ManifestError, SplitLeakError

ids = st.text("abcXYZ0123456789_-[]*?", min_size=1, max_size=8)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def cases(value, root: Path, names=()):
    return expand(parse_cases(value, root / "set.yaml"), root, names, "set.yaml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(found=st.lists(ids, unique_by=str.lower, min_size=1, max_size=5))
def test_every_id_that_was_written_is_found(found, tmp_path_factory):
    root = tmp_path_factory.mktemp("found")
    unfit = [id for id in found if set(id) & set("*?")]
    touch(
        root, *(f"im[1]/{id}/{id}_ct.nii" for id in found), "im[1]/a/b_ct.nii", "im[1]/.hidden/.hidden_ct.nii", "im1/no/no_ct.nii"
    )
    value = {"images": ["im[1]/{id}/{id}_ct.nii"]}
    if unfit:
        with pytest.raises(ManifestError, match="cannot be a file name"):
            cases(value, root)
    else:
        assert [case.id for case in cases(value, root)] == sorted(found)


def test_channels_labels_groups_and_splits_of_found_files(tmp_path):
    touch(tmp_path, *(f"{part}/{id}.nii" for part in ("t1", "t2", "seg") for id in ("07_a", "07_b", "12_a")))
    (tmp_path / "s.json").write_text(json.dumps({"mine": ["07_a", "07_b"], "test": ["12_a"]}))
    first, second, third = cases(
        {
            "images": ["t1/{id}.nii", "t2/{id}.nii"],
            "labels": "seg/{id}.nii",
            "group_pattern": r"^(\d+)_",
            "split_file": "s.json",
            "split_names": {"train": "mine", "test": "test"},
        },
        tmp_path,
    )
    assert first.images == (tmp_path / "t1/07_a.nii", tmp_path / "t2/07_a.nii")
    assert first.labels == tmp_path / "seg/07_a.nii"
    assert [case.group for case in (first, second, third)] == ["07", "07", "12"]
    assert [case.split for case in (first, second, third)] == ["train", "train", "test"]


def test_a_free_ending_takes_every_format(tmp_path):
    touch(
        tmp_path,
        *("images/a.nii.gz", "images/b.mha", "images/c.d.nrrd", "images/e.hdr", "images/e.img", "images/f.dcm"),
        *("images/a.json", "images/b.seg.nrrd", "images/.g.nii", "images/notes", "images/h.txt"),
        *("labels/a.seg.nrrd", "labels/b.nii", "labels/c.d.png", "labels/e.rtstruct.dcm", "labels/f.seg.dcm", "labels/f.csv"),
    )
    found = cases({"images": ["images/{id}.*"], "labels": "labels/{id}.*"}, tmp_path)
    assert [(case.id, case.images[0].name, case.labels.name) for case in found] == [
        ("a", "a.nii.gz", "a.seg.nrrd"),
        ("b", "b.mha", "b.nii"),
        ("c.d", "c.d.nrrd", "c.d.png"),
        ("e", "e.hdr", "e.rtstruct.dcm"),
        ("f", "f.dcm", "f.seg.dcm"),
    ]
    assert is_below(parse_cases({"images": ["images/{id}.*"]}, tmp_path / "set.yaml"), tmp_path)


def test_a_free_ending_of_channels_tables_and_masks_a_label(tmp_path):
    touch(tmp_path, "x/a_0000.nrrd", "x/a_0001.mha", "x/b_0000.nii.gz", "x/b_0001.nii", "m/a/liver.nii.gz", "m/b/liver.mgz")
    value = {"images": ["x/{id}_0000.*", "x/{id}_0001.*"], "labels": {"per_label": "m/{id}/{label}.*"}}
    first, second = cases(value, tmp_path, ["liver"])
    assert [file.name for file in (*first.images, *second.images)] == ["a_0000.nrrd", "a_0001.mha", "b_0000.nii.gz", "b_0001.nii"]
    assert (first.masks[0][1].name, second.masks[0][1].name) == ("liver.nii.gz", "liver.mgz")
    (tmp_path / "t.csv").write_text("who\na\nb\n")
    rows = cases({"table": "t.csv", "id": "{who}", "images": ["x/{who}_0000.*"]}, tmp_path)
    assert [case.images[0].name for case in rows] == ["a_0000.nrrd", "b_0000.nii.gz"]


def test_a_free_ending_that_two_files_fit_is_refused(tmp_path):
    touch(tmp_path, "i/a.nii.gz", "i/a.mha", "l/a.nii")
    with pytest.raises(ManifestError, match=r"2 files fit .*i/a\.\*: a\.mha, a\.nii\.gz.*Write the ending, or more"):
        cases({"images": ["i/{id}.*"], "labels": "l/{id}.nii"}, tmp_path)
    with pytest.raises(ManifestError, match=r"1 files of 1 cases are missing: .*m/a\.\*"):
        cases({"images": ["l/{id}.*"], "labels": "m/{id}.*"}, tmp_path)


STARS = {
    "a folder": (["i*/{id}.nii"], ["i1/a.nii", "i2/b.nii"], "l/{id}.nii", ["l/a.nii", "l/b.nii"]),
    "a folder between": (["{id}/*/ct.nii"], ["a/x/ct.nii", "b/y/ct.nii"], "{id}/*/seg.nii", ["a/x/seg.nii", "b/z/seg.nii"]),
    "after the id": (["i/{id}_*.nii"], ["i/a_x.nii", "i/b_y.nii"], "l/*_{id}_seg.nii", ["l/1_a_seg.nii", "l/2_b_seg.nii"]),
    "before the id": (["i/*-{id}.nii"], ["i/x-a.nii", "i/y-b.nii"], "l/{id}*.nii", ["l/a_1.nii", "l/b.nii"]),
    "any depth": (["**/{id}/ct.nii"], ["a/ct.nii", "x/y/b/ct.nii"], "**/{id}/seg.nii", ["a/seg.nii", "x/y/b/seg.nii"]),
    "and the ending": (["*/{id}.*"], ["x/a.mha", "y/b.nii.gz"], "l*/{id}.*", ["l/a.png", "l2/b.seg.nrrd"]),
    "masks beside": (["i/{id}/*.nii"], ["i/a/1.nii", "i/b/2.nii"], "i/{id}/*_seg.nii", ["i/a/1_seg.nii", "i/b/2_seg.nii"]),
}


@pytest.mark.parametrize("name", STARS)
def test_a_star_stands_for_any_text(name, tmp_path):
    images, image_files, labels, label_files = STARS[name]
    touch(tmp_path, *image_files, *label_files, "i/.hidden-x.nii", ".i/z.nii")
    value = {"images": images, "labels": labels}
    first, second = cases(value, tmp_path)
    assert (first.id, second.id) == ("a", "b")
    assert [first.images[0], second.images[0]] == [tmp_path / file for file in image_files]
    assert [first.labels, second.labels] == [tmp_path / file for file in label_files]
    assert is_below(parse_cases(value, tmp_path / "set.yaml"), tmp_path)


def test_a_star_in_tables_and_masks_a_label(tmp_path):
    touch(tmp_path, "a/scan_1.nii", "m/x/a/liver_2.nii")
    (tmp_path / "t.csv").write_text("who\na\n")
    value = {"table": "t.csv", "id": "{who}", "images": ["{who}/scan_*.nii"], "labels": {"per_label": "m/*/{who}/{label}_*.nii"}}
    (only,) = cases(value, tmp_path, ["liver"])
    assert (only.images[0].name, only.masks[0][1].name) == ("scan_1.nii", "liver_2.nii")


def test_a_star_that_two_files_fit_or_none(tmp_path):
    touch(tmp_path, "i/a_1.nii", "i/a_2.nii", "j/a.nii")
    with pytest.raises(
        ManifestError, match=r"2 files fit .*i/a_\*\.nii: a_1\.nii, a_2\.nii\. Write the ending, or more of the name"
    ):
        cases({"images": ["i/{id}_*.nii"]}, tmp_path)
    with pytest.raises(ManifestError, match=r"1 files of 1 cases are missing: .*l/\*a\.nii"):
        cases({"images": ["j/{id}.nii"], "labels": "l/*{id}.nii"}, tmp_path)


@given(
    st.lists(st.text("ab_1", min_size=1, max_size=4), min_size=1, max_size=4, unique=True),
    st.sampled_from(["x/{id}.nii", "*/{id}.nii", "x/*{id}.nii", "{id}/*.nii", "**/{id}.nii", "x/{id}*i"]),
)
def test_a_star_fits_what_a_shell_fits(names, pattern):
    """Oracle: fnmatch, whose star crosses folders too, on files that lie in one folder."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        files = [f"x/{name}.nii" for name in names]
        touch(root, *files)
        fitting = [file for _, file in matching_files(pattern, root)]
        shell = pattern.replace("**/", "*").replace("{id}", "?*")
        assert sorted(file.relative_to(root).as_posix() for file in fitting) == sorted(
            file for file in files if fnmatchcase(file, shell) and (not shell.startswith("?*/") or file.startswith("x/"))
        )


BESIDE = {
    "by pattern": ({"images": ["d/{id}.nii"], "labels": "d/{id}_seg.nii"}, ["d/a_seg.nii", "d/b_seg.nii"]),
    "in another word": ({"images": ["d/{id}.nii"], "labels": "d/{id}-roi.nii"}, ["d/a-roi.nii", "d/b-roi.nii"]),
    "before the id": ({"images": ["d/{id}.nii"], "labels": "d/seg_{id}.nii"}, ["d/seg_a.nii", "d/seg_b.nii"]),
    "of each label": (
        {"images": ["d/{id}.nii"], "labels": {"per_label": "d/{id}_{label}.nii"}},
        ["d/a_liver.nii", "d/b_liver.nii"],
    ),
    "by any ending": ({"images": ["d/{id}.*"], "labels": "d/{id}_m.*"}, ["d/a_m.nii", "d/b_m.mha"]),
    "by name alone": ({"images": ["d/{id}.nii"]}, ["d/a_seg.nii", "d/b_mask.nii"]),
}


@pytest.mark.parametrize("name", BESIDE)
def test_masks_beside_images_are_no_images(name, tmp_path):
    value, masks = BESIDE[name]
    touch(tmp_path, "d/a.nii", "d/b.nii", *masks)
    assert [case.id for case in cases(value, tmp_path, ["liver"])] == ["a", "b"]


def test_a_missing_partner_is_named_with_the_count(tmp_path):
    touch(tmp_path, *(f"i/{id}.nii" for id in "abcde"), "l/a.nii")
    with pytest.raises(
        ManifestError, match=r"4 files of 5 cases are missing: .*l/b\.nii, .*l/c\.nii, .*l/d\.nii and 1 more"
    ) as raised:
        cases({"images": ["i/{id}.nii"], "labels": "l/{id}.nii"}, tmp_path)
    assert "--root" in str(raised.value)


def test_no_file_that_fits_names_what_is_there(tmp_path):
    touch(tmp_path, "i/a.nii.gz", "i/b.nii.gz", "i/notes.txt")
    with pytest.raises(
        ManifestError, match=r"no file fits 'i/\{id\}\.nii' below .*; beside it are 2 images: a\.nii\.gz, b\.nii\.gz"
    ):
        cases({"images": ["i/{id}.nii"]}, tmp_path)


def test_no_file_at_all_names_pattern_and_root(tmp_path):
    with pytest.raises(ManifestError, match=r"no file fits 'i/\{id\}\.nii' below .*VOXELRY_DATA"):
        cases({"images": ["i/{id}.nii"]}, tmp_path)


@pytest.mark.parametrize(
    ("lists", "names", "error", "message"),
    [
        ({"train": ["a"], "val": ["a"]}, None, SplitLeakError, "case 'a' is in train and in val"),
        ({"train": 5}, None, ManifestError, "'train' is 5. A list of case ids"),
        ({"train": ["a", "zz"]}, None, ManifestError, "1 of its cases have no image, the first: zz"),
        ({"dev_train": ["a"]}, {"train": "dev_trian"}, ManifestError, "no list 'dev_trian'.*Did you mean 'dev_train'"),
    ],
)
def test_split_files_that_do_not_fit(lists, names, error, message, tmp_path):
    touch(tmp_path, "a.nii")
    (tmp_path / "s.json").write_text(json.dumps(lists))
    with pytest.raises(error, match=message):
        cases({"images": ["{id}.nii"], "split_file": "s.json", "split_names": names or {}}, tmp_path)


def test_a_table_with_foreign_columns(tmp_path):
    (tmp_path / "index.csv").write_text("stem;where;who;part\nx1;new;kay;dev_train\nx2;old;lee;dev_val\nx3;old;moe;\n")
    touch(tmp_path, "new/x1.jpg", "old/x2.jpg", "old/x3.jpg", *(f"m/{x}.png" for x in ("x1", "x2", "x3")))
    found = cases(
        {
            "table": "index.csv",
            "id": "{stem}",
            "images": ["{where}/{stem}.jpg"],
            "labels": "m/{stem}.png",
            "group": "{who}",
            "split": "{part}",
            "split_names": {"train": "dev_train", "val": "dev_val"},
            "site": "{where}",
        },
        tmp_path,
    )
    assert [(case.id, case.group, case.split, case.site) for case in found] == [
        ("x1", "kay", "train", "new"),
        ("x2", "lee", "val", "old"),
        ("x3", "moe", None, "old"),
    ]
    assert found[1].images == (tmp_path / "old/x2.jpg",)


def test_rows_of_a_table_are_chosen_by_their_cells(tmp_path):
    (tmp_path / "index.csv").write_text("stem,view,sex\nx1,PA,f\nx2,AP,f\nx3,PA,m\nx4,PA,f\n")
    touch(tmp_path, *(f"x{n}.jpg" for n in range(1, 5)))
    rule = {"table": "index.csv", "id": "{stem}", "images": ["{stem}.jpg"], "where": {"view": "PA", "sex": "f"}}
    assert [case.id for case in cases(rule, tmp_path)] == ["x1", "x4"]


def test_ids_that_some_disks_take_for_one_name(tmp_path):
    (tmp_path / "index.csv").write_text("stem,id\na,Leber\nb,LEBER\n")
    touch(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(ManifestError, match="'Leber' and 'LEBER' name one file"):
        cases({"table": "index.csv", "id": "{id}", "images": ["{stem}.jpg"]}, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ["{wher}/{stem}.jpg"]}, r"asks for \{wher\}. Did you mean 'where'"),
        ({"split": "{where}"}, r"split 'new' is unknown \(known: train, val, test\)"),
        ({"split": "{where}", "split_names": {"train": "old"}}, r"split 'new' is unknown \(known: old\)"),
        ({"group_pattern": r"^\d+$"}, "group_pattern .* does not fit 'x1'"),
        ({"table": "nowhere.csv"}, r"no file .*nowhere\.csv.*--root"),
        ({"id": "{where}/{stem}"}, "'new/x1' cannot be a file name"),
        ({"id": "same"}, "case id 'same' occurs twice"),
        ({"where": {"wher": "new"}}, r"asks for \{wher\}. Did you mean 'where'"),
        ({"where": {"where": "old"}}, r"none of 2 rows of index.csv has \{'where': 'old'\}"),
    ],
)
def test_table_rows_that_do_not_fit(change, message, tmp_path):
    (tmp_path / "index.csv").write_text("stem,where\nx1,new\nx2,new\n")
    touch(tmp_path, "new/x1.jpg", "new/x2.jpg")
    with pytest.raises(ManifestError, match=message):
        cases({"table": "index.csv", "id": "{stem}", "images": ["{where}/{stem}.jpg"]} | change, tmp_path)


def test_one_mask_file_a_label(tmp_path):
    touch(tmp_path, "s1/ct.nii", "s1/seg/liver.nii", "s1/seg/spleen.nii")
    (case,) = cases({"images": ["{id}/ct.nii"], "labels": {"per_label": "{id}/seg/{label}.nii"}}, tmp_path, ["liver", "spleen"])
    assert case.labels is None
    assert case.masks == (("liver", tmp_path / "s1/seg/liver.nii"), ("spleen", tmp_path / "s1/seg/spleen.nii"))


def test_rows_keep_their_order_and_default_to_one_group_each(tmp_path):
    touch(tmp_path, "z.nii", "a.nii")
    found = cases([{"id": "z", "images": ["z.nii"]}, {"id": "a", "images": ["a.nii"], "group": "g", "site": "s"}], tmp_path)
    assert [(case.id, case.group, case.site) for case in found] == [("z", "z", ""), ("a", "g", "s")]


def test_below_which_folder_the_files_are(tmp_path):
    touch(tmp_path, "here/a.nii", "here/t.csv")
    empty = tmp_path / "there"
    empty.mkdir()
    for value in (
        [{"id": "a", "images": ["a.nii"]}],
        {"images": ["{id}.nii"]},
        {"table": "t.csv", "id": "{a}", "images": ["{a}"]},
    ):
        listed = parse_cases(value, tmp_path / "set.yaml")
        assert is_below(listed, tmp_path / "here")
        assert not is_below(listed, empty)
