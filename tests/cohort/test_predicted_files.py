"""Masks with what lies beside them: ids of objects by a card or by segments, scores, confidence."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import voxelry as vx
from voxelry.base.files import write_json
from voxelry.cohort.evaluation import evaluate_cohort, summarise
from voxelry.cohort.predicted_files import read_objects, segments_beside
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.load import load_case
from voxelry.datasets.manifest import load_manifest
from voxelry.errors import CorruptFileError, LabelError, UsageError
from voxelry.formats.grids.nifti_write import write_nifti, write_nifti_image
from voxelry.formats.reader import read_labels
from voxelry.metrics.families import measure
from voxelry.metrics.predicted_map import PredictedMap

THINGS = [{"value": 1, "name": "nucleus", "kind": "thing"}]


def squares(count, value=lambda n: n + 1, shape=(40, 40)):
    """Squares of 4 that touch in pairs."""
    ids = np.zeros(shape, np.uint16)
    for n in range(count):
        row, column = divmod(n, 4)
        start = column // 2 * 16 + column % 2 * 4
        ids[row * 6 : row * 6 + 4, start : start + 4] = value(n)
    return ids


def nuclei(folder, labels=THINGS, instances="mask_ids"):
    """A card of two pictures whose masks are ids, and predictions that are the same ids by other names, one of them lost."""
    for name in ("images", "masks", "out"):
        (folder / name).mkdir()
    for case, count in (("a", 7), ("b", 3)):
        Image.fromarray(np.full((40, 40), 90, np.uint8)).save(folder / "images" / f"{case}.png")
        Image.fromarray(squares(count)).save(folder / "masks" / f"{case}.png")
        Image.fromarray(squares(count - 1, lambda n: 700 - n)).save(folder / "out" / f"{case}.png")
    card = {
        "name": "nuclei", "modality": "GM", "dimensions": 2, "channels": ["grey"], "instances": instances, "labels": labels,
        "cases": [{"id": i, "images": [f"images/{i}.png"], "labels": f"masks/{i}.png", "split": "test"} for i in "ab"],
    }  # fmt: skip
    write_json(folder / "card.yaml", card)
    return folder / "card.yaml"


def segments(folder, case, ids, score=lambda number: number / 1000, **more):
    rows = [{"id": int(number), "label": "nucleus", "label_id": 1, "score": score(number), **more} for number in ids]
    write_json(folder / f"{case}.json", {"segments_info": rows})


def test_predicted_ids_are_objects_of_the_only_thing_of_a_card(tmp_path):
    card = nuclei(tmp_path)
    for reference in (card, load_manifest(card)):
        scores = vx.evaluate(reference, tmp_path / "out", metrics=["instances", "panoptic", "lesions", "identification"])
        assert scores.values["instance_tp"].tolist() == [[6.0], [2.0]]
        assert scores.values["instance_fn"].tolist() == [[1.0], [1.0]]
        np.testing.assert_allclose(scores.values["dsb_ap50_95"], [[6 / 7], [2 / 3]])
        assert scores.pooled["panoptic_pq"]["nucleus"] == pytest.approx(8 / 9)
    truth = load_case(load_manifest(card).cases[0], load_manifest(card))[1]
    single = vx.evaluate(truth, tmp_path / "out" / "a.png", metrics=["instances"])
    assert single.values["instance_tp"].tolist() == [[6.0]]


def test_a_predicted_mask_of_classes_is_its_components(tmp_path):
    card = nuclei(tmp_path)
    for case, count in (("a", 7), ("b", 3)):
        Image.fromarray((squares(count) > 0).astype(np.uint8)).save(tmp_path / "out" / f"{case}.png")
    scores = evaluate_cohort(card, tmp_path / "out", ["instances"])
    assert (scores.dice == 1).all()
    assert scores.values["instance_count_error"].tolist() == [[-3.0], [-1.0]]  # those that touch are one component


def test_scores_beside_predictions_rank_objects(tmp_path):
    card = nuclei(tmp_path)
    with pytest.raises(UsageError, match=r"a\.png.*score of each object.*json"):
        evaluate_cohort(card, tmp_path / "out", ["froc"])
    for case, count in (("a", 7), ("b", 3)):
        segments(tmp_path / "out", case, np.unique(squares(count - 1, lambda n: 700 - n))[1:])
    scores = evaluate_cohort(card, tmp_path / "out", ["coco", "froc"])
    assert scores.pooled["coco_ap50"]["nucleus"] == pytest.approx(81 / 101)  # recall 0.8 of 10 objects, no false positive
    assert scores.pooled["froc"]["nucleus"] == pytest.approx(0.8)
    summary = summarise(scores)
    entry = summary["pooled_metrics"]["coco_ap50"]["nucleus"]
    assert entry["low"] <= entry["mean"] <= entry["high"]


def test_a_case_in_which_nothing_is_predicted_counts(tmp_path):
    """Its misses lower the scores of all cases together."""
    card = nuclei(tmp_path)
    segments(tmp_path / "out", "a", np.unique(squares(6, lambda n: 700 - n))[1:])
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "out" / "b.png")
    for beside in (None, {"segments_info": []}):
        if beside is not None:
            write_json(tmp_path / "out" / "b.json", beside)
        scores = evaluate_cohort(card, tmp_path / "out", ["coco", "froc", "panoptic"])
        assert len(scores.cases) == 2
        assert scores.pooled["froc"]["nucleus"] == pytest.approx(0.6)  # six of ten
        assert scores.pooled["panoptic_rq"]["nucleus"] == pytest.approx(6 / 8)


def test_an_id_that_is_the_cards_ignore_value_is_an_object(tmp_path):
    card = nuclei(tmp_path)
    content = json.loads(card.read_text()) | {"ignore": 699}
    card.write_text(json.dumps(content))
    scores = vx.evaluate(card, tmp_path / "out", metrics=["instances"])
    assert scores.values["instance_tp"].tolist() == [[6.0], [2.0]]


def test_ids_that_no_segment_has_are_named(tmp_path):
    card = nuclei(tmp_path)
    for case, count in (("a", 7), ("b", 3)):
        segments(tmp_path / "out", case, np.unique(squares(count - 1, lambda n: 700 - n))[2:])  # the lowest id is not listed
    with pytest.raises(LabelError, match=r"ids 695 are not among the 5 segments beside it"):
        vx.evaluate(card, tmp_path / "out", metrics=["instances"])


def test_a_file_of_ids_of_another_program_is_said_not_to_count(tmp_path, caplog):
    for folder in ("ref", "out"):
        (tmp_path / folder).mkdir()
        Image.fromarray((squares(4) > 0).astype(np.uint8)).save(tmp_path / folder / "a.png")
    Image.fromarray(squares(4)).save(tmp_path / "out" / "a_instances.png")
    vx.evaluate(tmp_path / "ref", tmp_path / "out", metrics=["instances"])
    assert "count where voxelry wrote both (a_instances has no record of it)" in caplog.text


@pytest.mark.parametrize(
    ("row", "more"),
    [
        ({"label_id": 1, "was_fused": False}, {}),  # Hugging Face's: the card's values
        ({"label_id": 0, "was_fused": False}, {"id2label": {"0": "nucleus"}}),
        ({"category_id": 1, "iscrowd": 0}, {}),  # COCO's panoptic form
        ({"category_id": 7}, {"categories": [{"id": 7, "name": "nucleus", "isthing": 1}]}),
    ],
)
def test_segments_of_other_forms_are_labels(tmp_path, row, more):
    card = nuclei(tmp_path)
    for case, count in (("a", 7), ("b", 3)):
        ids = np.unique(squares(count - 1, lambda n: 700 - n))[1:].tolist()
        write_json(tmp_path / "out" / f"{case}.json", {"segments_info": [{"id": i, "score": 0.5, **row} for i in ids], **more})
    scores = vx.evaluate(card, tmp_path / "out", metrics=["instances", "coco"])
    assert scores.labels == ("nucleus",)
    assert scores.values["instance_tp"].tolist() == [[6.0], [2.0]]
    assert scores.pooled["coco_ap50"]["nucleus"] == pytest.approx(81 / 101)


def coco_of_all(folder, file, score=lambda number: number / 1000):
    """One COCO file of the predictions of both pictures."""
    table = LabelTable(labels=(Label(value=1, name="nucleus", kind="thing"),))
    every = {"images": [], "annotations": []}
    for picture, (case, count) in enumerate((("a", 7), ("b", 3)), start=1):
        ids = squares(count - 1, lambda n: 700 - n)
        labels = LabelMap((ids > 0).astype(np.uint8)[None], Geometry((40, 40)), table, instances=ids[None].astype(np.uint32))
        content = json.loads(vx.write(labels, folder / "one.coco.json").read_text())
        every["categories"] = content["categories"]
        every["images"].append({"id": picture, "file_name": f"images/{case}.png", "height": 40, "width": 40})
        for row in content["annotations"]:
            scored = {} if score is None else {"score": score(row["id"])}
            every["annotations"].append(row | {"image_id": picture, "id": 1000 * picture + row["id"]} | scored)
    (folder / "one.coco.json").unlink()
    write_json(file, every)
    return file


def test_one_coco_file_is_the_predictions_of_all_pictures(tmp_path):
    card = nuclei(tmp_path)
    file = coco_of_all(tmp_path, tmp_path / "all.coco.json")
    scores = vx.evaluate(card, file, metrics=["instances", "coco", "froc"])
    assert scores.cases == ("a", "b")
    assert scores.values["instance_tp"].tolist() == [[6.0], [2.0]]
    assert scores.pooled["coco_ap50"]["nucleus"] == pytest.approx(81 / 101)
    assert scores.pooled["froc"]["nucleus"] == pytest.approx(0.8)
    coco_of_all(tmp_path, file, score=None)
    with pytest.raises(UsageError, match="score of each object"):
        vx.evaluate(card, file, metrics=["coco"])


@pytest.mark.parametrize("swapped", [False, True])
def test_one_coco_file_beside_a_folder_of_masks(tmp_path, swapped):
    nuclei(tmp_path)
    for case, count in (("a", 7), ("b", 3)):
        Image.fromarray((squares(count) > 0).astype(np.uint8)).save(tmp_path / "masks" / f"{case}.png")
    pair = [tmp_path / "masks", coco_of_all(tmp_path, tmp_path / "all.coco.json")]
    scores = vx.evaluate(*(pair[::-1] if swapped else pair))
    assert scores.cases == ("a", "b")
    np.testing.assert_allclose(scores.dice, [[12 / 13], [4 / 5]])
    single = [tmp_path / "masks" / "b.png", pair[1]]
    np.testing.assert_allclose(vx.evaluate(*(single[::-1] if swapped else single)).dice, [[4 / 5]])


def test_label_ids_without_a_card_are_values(tmp_path):
    for folder in ("ref", "out"):
        (tmp_path / folder).mkdir()
    Image.fromarray((squares(4) > 0).astype(np.uint8) * 2).save(tmp_path / "ref" / "a.png")
    Image.fromarray(squares(4, lambda n: 40 + n)).save(tmp_path / "out" / "a.png")
    write_json(tmp_path / "out" / "a.json", {"segments_info": [{"id": 40 + n, "category_id": 2} for n in range(4)]})
    scores = vx.evaluate(tmp_path / "ref", tmp_path / "out")
    assert scores.labels == ("label_2",)
    assert scores.dice.tolist() == [[1.0]]


def test_a_segment_without_a_label_is_refused(tmp_path):
    for row in ({"label_id": 0}, {}):
        write_json(tmp_path / "a.json", {"segments_info": [{"id": 700, **row}]})
        with pytest.raises(CorruptFileError, match=r"a\.json: segment 700 has no label.*id2label"):
            segments_beside(tmp_path / "a.png")


def test_segments_name_the_labels_of_ids(tmp_path):
    labels = [*THINGS, {"value": 2, "name": "debris", "kind": "thing"}, {"value": 3, "name": "field"}]
    card = nuclei(tmp_path, labels, "components")
    for case in "ab":
        Image.fromarray((squares(3) > 0).astype(np.uint8)).save(tmp_path / "masks" / f"{case}.png")
        ids = squares(3, lambda n: 5)
        ids[20:30, 20:30], ids[32:36, 2:9] = 9, 70
        Image.fromarray(ids).save(tmp_path / "out" / f"{case}.png")
    with pytest.raises(LabelError, match="one label of kind thing"):
        evaluate_cohort(card, tmp_path / "out")
    rows = [(5, "nucleus", 1, "thing"), (9, "debris", 2, "thing"), (70, "field", 3, "stuff")]
    for case in "ab":
        content = [{"id": i, "label": name, "label_id": v, "kind": kind} for i, name, v, kind in rows]
        (tmp_path / "out" / f"{case}.segments.json").write_text(json.dumps({"segments_info": content}))
    scores = evaluate_cohort(card, tmp_path / "out", ["panoptic"])
    assert scores.dice[:, 0].tolist() == [1.0, 1.0]
    assert scores.values["panoptic_fp"].tolist() == [[0.0, 1.0, 1.0]] * 2
    assert scores.values["panoptic_fn"].tolist() == [[1.0, 0.0, 0.0]] * 2  # an object of two components matches the larger one


def test_segments_beside_a_mask_of_classes_give_no_ids(tmp_path):
    mask = tmp_path / "a.png"
    Image.fromarray((squares(4) > 0).astype(np.uint8)).save(mask)
    segments(tmp_path, "a", [1, 2, 3])
    assert read_objects(mask, lambda: read_labels(mask)).instances is None
    Image.fromarray(squares(3)).save(mask)
    labels = read_objects(mask, lambda: read_labels(mask))
    assert labels.instances is not None
    assert labels.table.names == ("nucleus",)


def test_ids_beyond_16_bits(tmp_path):
    table = LabelTable(labels=(Label(value=1, name="cell", kind="thing"),))
    ids = squares(3, lambda n: 1)[..., None].astype(np.uint32) * np.array([70_000, 3], np.uint32)
    truth = LabelMap((ids > 0).astype(np.uint8)[None], Geometry.from_spacing(ids.shape, (1, 1, 2)), table, instances=ids[None])
    mask = write_nifti_image(Volume(ids[None].astype(np.int32), truth.geometry), tmp_path / "a.nii.gz")
    scores = vx.evaluate(truth, mask, metrics=["instances"])
    assert scores.values["dsb_ap50_95"].tolist() == [[1.0]]
    segments(tmp_path, "a", [3])
    with pytest.raises(LabelError, match=r"ids 70000 are not among the 1 segments"):
        vx.evaluate(truth, mask)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"label": "x"}], r"segment 0\.id"),
        ([{"id": 0, "label": "x"}], r"segment 0\.id"),
        ([{"id": 1, "label": "x"}, {"id": 1, "label": "x"}], "an id twice"),
        (4, "segment"),
    ],
)
def test_files_that_list_no_segments(tmp_path, content, words):
    (tmp_path / "a.json").write_text(json.dumps({"segments_info": content}))
    with pytest.raises(CorruptFileError, match=words):
        segments_beside(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('{"something": "else"}')
    assert segments_beside(tmp_path / "a.png") is None


def test_fused_segments_are_listed_once_for_each_part(tmp_path):
    """As Hugging Face's panoptic post-processing does with `label_ids_to_fuse`."""
    fused = {"id": 3, "label_id": 2, "was_fused": True}
    write_json(
        tmp_path / "a.json", {"segments_info": [{**fused, "score": 0.4}, {**fused, "score": 0.9}], "id2label": {"2": "sky"}}
    )
    (segment,) = segments_beside(tmp_path / "a.png")
    assert (segment.id, segment.label, segment.score) == (3, "sky", 0.9)
    write_json(tmp_path / "a.json", {"segments_info": [fused, {**fused, "label_id": 1}]})
    with pytest.raises(CorruptFileError, match=r"an id twice \(3\)"):
        segments_beside(tmp_path / "a.png")


def test_confidence_beside_predictions_is_calibrated(tmp_path):
    table = LabelTable(labels=(Label(value=1, name="liver"),))
    array = np.zeros((20, 12, 10), np.uint8)
    array[2:12, 2:8, 2:7] = 1
    labels = LabelMap.of(array, Geometry.from_spacing(array.shape, (1, 1, 2)), table)
    guess = LabelMap.of(np.roll(array, 2, axis=0), labels.geometry, table)
    for folder, one in (("refs", labels), ("out", guess)):
        (tmp_path / folder).mkdir()
        write_nifti(one, tmp_path / folder / "a.nii.gz")
    with pytest.raises(UsageError, match="--confidence probability"):
        evaluate_cohort(tmp_path / "refs", tmp_path / "out", ["calibration"])
    confidence = Volume(np.full((1, *array.shape), 204, np.uint8), labels.geometry)
    write_nifti_image(confidence, tmp_path / "out" / "a.probability.nii.gz")
    shutil.copy(tmp_path / "out" / "a.nii.gz", tmp_path / "a.nii.gz")
    from_files = evaluate_cohort(tmp_path / "refs", tmp_path / "out", ["calibration"])
    in_memory = measure(labels, PredictedMap(guess, confidence=confidence), metrics=["calibration"])
    for scores in (from_files, in_memory):
        np.testing.assert_allclose(scores.values["ece"], 0, atol=1e-12)  # 80 % are right, with a confidence of 0.8
    sure = PredictedMap(guess, confidence=Volume(np.ones((1, *array.shape), np.float32), labels.geometry))
    np.testing.assert_allclose(measure(labels, sure, metrics=["calibration"]).values["ece"], 0.2)
    wrong = PredictedMap(guess, confidence=Volume(np.full((1, *array.shape), 3, np.float32), labels.geometry))
    with pytest.raises(LabelError, match="probability of the predicted class"):
        measure(labels, wrong, metrics=["calibration"])
