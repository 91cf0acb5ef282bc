"""The page in a real browser, with real uploads."""

import json
import time

import numpy as np
import pytest
from PIL import Image

import voxelry
from helpers.chromium import Browser
from helpers.running_server import running

TOKEN = "a-token-of-many-characters"


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


DONE = "!document.querySelector('#result').hidden && document.querySelector('#slice').naturalWidth > 0"


def shown_colours(browser):
    """How many pixels of the slice that is shown are coloured, which only labels are."""
    return browser.value(
        "(() => { const image = document.querySelector('#slice'), canvas = document.createElement('canvas');"
        "canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;"
        "const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0);"
        "const data = pen.getImageData(0, 0, canvas.width, canvas.height).data; let count = 0;"
        "for (let i = 0; i < data.length; i += 4) count += data[i] !== data[i + 1] || data[i] !== data[i + 2];"
        "return count; })()"
    )


def downloaded(browser):
    end = time.monotonic() + 60
    while True:
        files = [file for file in browser.downloads.glob("*") if not file.name.endswith(".crdownload")]
        if files:
            return files[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_x_ray_is_segmented_shown_and_downloaded(browser, server, models, picture, tmp_path):
    browser.open(server.url)
    browser.until("document.querySelector('#model').options.length === 2")
    browser.choose("#file", picture)
    browser.until(DONE)
    labels = models["lungs"].predictor.predict(voxelry.read(picture)).labels
    names = browser.value("[...document.querySelectorAll('#segments tr')].map((row) => row.children[1].textContent)")
    assert names == [label.name for label in labels.table.labels if labels.mask(label.name).any()]
    assert shown_colours(browser) > 0
    browser.screenshot(tmp_path / "x-ray.png")
    browser.value("document.querySelector('#format').value = 'png'; document.querySelector('#download').click()")
    file = downloaded(browser)
    assert np.array_equal(np.asarray(Image.open(file)), labels.array)
    file.unlink()
    browser.value("document.querySelector('#format').value = 'measurements'; document.querySelector('#download').click()")
    file = downloaded(browser)
    assert file.name == "measurements.json"
    assert [row["label"] for row in json.loads(file.read_text())] == names
    file.unlink()
    assert browser.messages == []


def test_a_dicom_folder_is_packed_sent_and_scrolled(browser, server, models, volume_model, torso, tmp_path):
    folder = sorted((torso / "images").iterdir())[0]
    browser.open(server.url)
    browser.until("document.querySelector('#model').options.length === 2")
    browser.value(f"document.querySelector('#model').value = '{volume_model}'")
    browser.choose("#folder", folder)
    browser.until(DONE)
    assert browser.value("[...document.querySelectorAll('#planes button')].map((each) => each.textContent)") == [
        "axial", "coronal", "sagittal"
    ]  # fmt: skip
    before = browser.value("document.querySelector('#slice').src")
    browser.value(
        "document.querySelector('#index').value = 1; document.querySelector('#index').dispatchEvent(new Event('input'))"
    )
    browser.until(f"document.querySelector('#slice').src !== '{before}' && {DONE}")
    assert browser.value("document.querySelector('#number').textContent").startswith("2 of ")
    browser.screenshot(tmp_path / "torso.png")
    browser.value("document.querySelector('#format').value = 'dicom-seg'; document.querySelector('#download').click()")
    file = downloaded(browser)
    expected = models[volume_model].predictor.predict(voxelry.read(folder)).labels
    written = voxelry.read_labels(file, expected.table).on_grid(expected.geometry)
    for label in expected.table.labels:
        assert np.array_equal(written.mask(label.name), expected.mask(label.name))
    file.unlink()
    browser.value("document.querySelector('#delete').click()")
    browser.until("document.querySelector('#result').hidden")


def test_a_file_that_is_no_scan_is_an_error_and_the_token_is_asked_for(browser, models, picture, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no scan")
    with running(models, tmp_path / "jobs", TOKEN) as server:
        browser.open(server.url)
        browser.until("!document.querySelector('#token-field').hidden")
        browser.value(
            f"document.querySelector('#token').value = '{TOKEN}';"
            "document.querySelector('#token').dispatchEvent(new Event('change'))"
        )
        browser.until("document.querySelector('#model').options.length === 2")
        browser.choose("#file", text)
        browser.until("!document.querySelector('#error').hidden")
        assert "no image format" in browser.value("document.querySelector('#error').textContent")
        browser.choose("#file", picture)
        browser.until(DONE)
    browser.messages.clear()  # the browser logs each answer of 401
