"""Objects in a notebook: what they show, and that every name is text."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.plan import NetworkPlan, Normalisation, Plan
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.datasets.card import Card
from voxelry.datasets.manifest import Manifest
from voxelry.errors import CorruptFileError
from voxelry.inference.predictor import Prediction
from voxelry.metrics.families import measure

HOSTILE = "<script>alert('x')</script>\"&\u202e"
RED = (255, 0, 0)
GRID = Geometry.from_spacing((10, 12, 6), (1, 1, 2))


def labels(name: str = "liver") -> LabelMap:
    """A liver to the patient's right (high x), in front and at the head."""
    array = np.zeros(GRID.shape, np.uint8)
    array[6:9, 8:11, 3:5] = 1
    table = LabelTable(labels=(Label(value=1, name=name, color=RED),))
    return LabelMap.of(array, GRID, table, Source(files=(name,)))


class Words(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def pictures(html: str) -> list[np.ndarray]:
    data = re.findall(r"data:image/png;base64,([\w+/=]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in data]


def plan(reason: str) -> Plan:
    network = NetworkPlan(features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3),) * 3)
    norm = Normalisation(scheme="image")
    return Plan(
        dimensions=2, channels=(reason,), normalisation=(norm,), patch_size=(32, 32), batch_size=2, network=network,
        reasons=(reason,),
    )  # fmt: skip


def manifest(name: str) -> Manifest:
    card = Card(name="set", title=name, modality="CT", labels=(Label(value=1, name=name),))
    return Manifest(card, (), Path("data"), Path("data/manifest.yaml"), (name,))


@pytest.mark.parametrize("kind", ["volume", "labels", "scores", "prediction", "manifest", "plan"])
def test_hostile_names_are_text(kind):
    volume = Volume(np.zeros((1, *GRID.shape), np.int16), GRID, source=Source(files=(HOSTILE,), remarks=(HOSTILE,)))
    map = labels(HOSTILE)
    shown = {
        "volume": lambda: volume,
        "labels": lambda: map,
        "scores": lambda: replace(measure(map, map, HOSTILE), failed={HOSTILE: HOSTILE}),
        "prediction": lambda: Prediction(map, {HOSTILE: 0.5}, (HOSTILE,)),
        "manifest": lambda: manifest(HOSTILE),
        "plan": lambda: plan(HOSTILE),
    }[kind]()
    words = Words(shown._repr_html_())
    assert "script" not in words.tags
    assert HOSTILE in words.text


def test_a_label_map_is_painted_where_it_lies_as_radiology_shows_it():
    axial = pictures(labels()._repr_html_())[0].astype(int)
    rows, columns = np.nonzero((axial == RED).all(axis=-1))
    assert columns.mean() < axial.shape[1] / 2  # the patient's right is at the left
    assert rows.mean() < axial.shape[0] / 2  # the front is on top
    assert axial.shape[0] / axial.shape[1] == pytest.approx(12 / 10, abs=0.02)


def test_a_label_map_states_voxels_and_size():
    text = Words(labels()._repr_html_()).text
    assert re.search(r"liver\s+1\s+18\s+0\.036", text)


def test_pixels_that_cannot_be_decoded_are_a_sentence():
    def broken():
        raise CorruptFileError("a.dcm: is truncated")

    html = Volume(broken, GRID)._repr_html_()
    assert "a.dcm: is truncated" in html
    assert "10 x 12 x 6" in html
    assert pictures(html) == []


def test_objects_and_confidence_are_in_the_table():
    semantic = labels()
    ids = np.zeros(semantic.layers.shape, np.uint32)
    ids[0, 6, 8:11, 3:5], ids[0, 7:9, 8:11, 3:5] = 5, 9
    thing = LabelTable(labels=(Label(value=1, name="liver", color=RED, kind="thing"),))
    html = Prediction(replace(semantic, instances=ids, table=thing), {"liver": 0.25})._repr_html_()
    assert re.search(r"liver\s+1\s+18\s+0\.036\s+2\s+0\.250", Words(html).text)


def test_a_picture_is_shown_with_and_without_labels():
    grid = Geometry((20, 30), None, (0.5, 0.5))
    table = LabelTable(labels=(Label(value=1, name="lung"),))
    map = LabelMap.of(np.ones((20, 30), np.uint8), grid, table)
    assert len(pictures(map._repr_html_())) == 2
    assert len(pictures(Volume(np.ones((3, 20, 30), np.uint8), grid, channels=3)._repr_html_())) == 1
