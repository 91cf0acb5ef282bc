from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import voxelry
from helpers.plans import tiny_model, tiny_plan
from voxelry.adapters.prediction_forms import segmentation_answer
from voxelry.adapters.segmentation_pipeline import SegmentationPipeline, volume_of
from voxelry.core.geometry import Geometry
from voxelry.core.volume import Volume
from voxelry.errors import MissingFileError, ModelError, UsageError
from voxelry.formats.writer import write
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor
from voxelry.networks.weights import save_model

OPTIONS = PredictOptions(confidence="probability")


@pytest.fixture(scope="module")
def flat():
    return SegmentationPipeline(Predictor(tiny_model(tiny_plan(2)), "cpu", OPTIONS))


@pytest.fixture(scope="module")
def deep():
    return SegmentationPipeline(Predictor(tiny_model(tiny_plan(3)), "cpu", OPTIONS))


GREY = np.random.default_rng(0).integers(0, 256, (20, 24)).astype(np.uint8)


def plain(segments):
    return [(row["label"], row["score"], np.asarray(row["mask"]).tolist()) for row in segments]


def forms(tmp_path):
    """One grey picture in every form that is taken."""
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([GREY] * 3, axis=2)).save(tmp_path / "equal.png")
    colours = Image.fromarray(np.stack([GREY] * 3, axis=2))
    return [
        GREY,
        Image.fromarray(GREY),
        Image.fromarray(GREY.astype(np.uint16)),
        Image.fromarray(GREY.astype(np.int32)),
        Image.fromarray(GREY.astype(np.float32)),
        Image.fromarray(np.stack([GREY, np.full_like(GREY, 255)], axis=2), "LA"),
        colours,
        colours.convert("RGBA"),
        np.asarray(colours),
        tmp_path / "grey.png",
        str(tmp_path / "equal.png"),
        Volume(GREY[None], Geometry(GREY.shape)),
    ]


def test_one_picture_in_every_form_gives_one_answer(flat, tmp_path):
    expected = plain(segmentation_answer(flat.predictor.predict(Volume(GREY[None], Geometry(GREY.shape))), "semantic"))
    assert expected
    for form in forms(tmp_path):
        assert plain(flat(form)) == expected


def test_a_segment_is_what_transformers_gives(flat):
    """Keys and types of its documentation: label str, score float, mask a PIL image in the size of the picture."""
    segments = flat(Image.fromarray(GREY))
    for segment in segments:
        assert set(segment) == {"label", "score", "mask"}
        assert isinstance(segment["label"], str)
        assert 0 <= segment["score"] <= 1
        assert (segment["mask"].mode, segment["mask"].size) == ("L", (24, 20))
        assert set(np.unique(segment["mask"])) <= {0, 255}
    masks = np.stack([np.asarray(segment["mask"]) for segment in segments])
    assert ((masks > 0).sum(axis=0) <= 1).all()  # semantic: a pixel has one label


def test_several_at_once_and_one_after_the_other(flat):
    one = plain(flat(GREY))
    assert [plain(answer) for answer in flat([GREY, Image.fromarray(GREY)])] == [one, one]
    assert [plain(answer) for answer in flat((GREY,))] == [one]
    taken = []
    answers = flat(taken.append(number) or GREY for number in range(3))
    assert (plain(next(answers)), taken) == (one, [0])


def test_a_volume_gives_masks_on_its_own_grid(deep, tmp_path):
    grey = np.random.default_rng(1).normal(40, 20, (1, 12, 10, 9)).astype(np.float32)
    scan = Volume(grey, Geometry.from_spacing((12, 10, 9), (1.0, 2.0, 3.0)))
    segments = deep(scan)
    labels = deep.predictor.predict(scan).labels
    assert [segment["label"] for segment in segments] == [row.label.name for row in deep.predictor.predict(scan).segments_info]
    for segment in segments:
        assert (segment["mask"].dtype, segment["mask"].shape) == (np.uint8, (12, 10, 9))
        assert np.array_equal(segment["mask"] == 255, labels.mask(segment["label"]))


def test_a_file_of_a_volume(deep, tmp_path):
    labels = deep.predictor.predict(
        Volume(np.zeros((1, 12, 10, 9), np.float32), Geometry.from_spacing((12, 10, 9), (1.0, 1.0, 1.0)))
    ).labels
    write(labels, tmp_path / "as_scan.nii.gz")
    assert all(segment["mask"].shape == (12, 10, 9) for segment in deep(tmp_path / "as_scan.nii.gz"))


def test_thresholds_are_those_of_the_answer(flat):
    whole = flat(GREY)
    best = max(segment["score"] for segment in whole)
    assert flat(GREY, threshold=np.nextafter(best, 2)) == []
    assert len(flat(GREY, threshold=best)) == 1
    assert flat(GREY, mask_threshold=1.0) == [] or len(flat(GREY, mask_threshold=1.0)) < len(whole)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((4, 5, 6)), r"shape \(4, 5, 6\).*for a scan in 3D a Volume"),
        (np.zeros((2, 4, 5, 6)), "no picture"),
        (np.zeros((0, 5)), "no picture"),
        (np.zeros((4, 5), complex), "no picture"),
        (np.zeros((4, 5), object), "no picture"),
        (3, "type int"),
        (None, "type NoneType"),
        ([3], "type int"),
        ({"image": 1}.items(), "type tuple"),
        ("", "no path"),
        ("https://example.org/a.png", "URLs are not fetched"),
        ("data:image/png;base64,AAAA", "URLs are not fetched"),
        (np.full((8, 8), np.nan), "not finite"),
    ],
)
def test_what_is_no_image(flat, image, match):
    with pytest.raises(UsageError, match=match):
        list(flat(image))


def test_a_picture_is_turned_as_its_camera_says(flat, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(GREY).save(tmp_path / "turned.png", exif=exif)
    [by_path], [by_image] = flat(tmp_path / "turned.png")[:1], flat(Image.open(tmp_path / "turned.png"))[:1]
    assert np.asarray(by_path["mask"]).shape == GREY.T.shape
    assert np.array_equal(np.asarray(by_path["mask"]), np.asarray(by_image["mask"]))


@pytest.mark.parametrize("name", ["threshold", "mask_threshold", "overlap_mask_area_threshold"])
@pytest.mark.parametrize("value", [None, "0.5", 2, -0.1, float("nan")])
def test_a_threshold_is_a_share(flat, name, value):
    with pytest.raises(UsageError, match="a threshold of"):
        flat(GREY, **{name: value})


def test_colours_for_a_model_of_grey_a_scan_for_a_model_of_pictures_and_no_file(flat, deep):
    colours = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    with pytest.raises(UsageError, match="has colours"):
        flat(colours)
    with pytest.raises(ModelError):
        deep(GREY)
    with pytest.raises(MissingFileError):
        flat("nowhere.png")


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(["u1", "u2", "i4", "f4"]), st.booleans())
def test_an_array_keeps_its_numbers(rows, columns, kind, is_colour):
    pixels = np.arange(rows * columns * 3).reshape(rows, columns, 3).astype(kind)
    pixels = pixels if is_colour else pixels[..., 0]
    volume = volume_of(pixels)
    assert volume.geometry.shape == (rows, columns)
    assert volume.geometry.spacing is None
    assert np.array_equal(np.moveaxis(volume.array, 0, 2), pixels.reshape(rows, columns, -1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tiny_model(tiny_plan(2)), tmp_path_factory.mktemp("pipe") / "tiny").path


def test_the_verb(folder, flat, monkeypatch):
    monkeypatch.setenv("VOXELRY_MODELS", str(folder.parent))
    for model in (folder, "tiny"):
        pipe = voxelry.pipeline("image-segmentation", model=model, device=-1)
        assert (str(pipe.predictor.device), pipe.subtask) == ("cpu", "semantic")
        assert plain(pipe(GREY)) == plain(flat(GREY))
    assert voxelry.pipeline("image-segmentation", folder, device="cpu", overlap=0.25).predictor.options.overlap == 0.25
    for device in (None, torch.device("cpu")):
        assert plain(voxelry.pipeline("image-segmentation", folder, device=device)([GREY], batch_size=2)[0]) == plain(flat(GREY))
    for task in ("text-generation", None):
        with pytest.raises(UsageError, match="Known: image-segmentation"):
            voxelry.pipeline(task, model="tiny")
    with pytest.raises(UsageError, match="cuda:7"):
        voxelry.pipeline("image-segmentation", model="tiny", device=7)
    with pytest.raises(ModelError, match="no model of that name"):
        voxelry.pipeline("image-segmentation", model="tinny")
    assert Path(pipe.predictor.model.path) == folder
