"""The page of a dataset: all cases are on it, names stay text, and a browser opens it without a network or a complaint."""

import numpy as np
import pytest

import voxelry
from helpers.chromium import Browser
from voxelry.core.geometry import Geometry
from voxelry.core.volume import Volume
from voxelry.errors import UsageError
from voxelry.phantom.dataset import write_phantoms
from voxelry.reports import dataset_page

HOSTILE = "<script>document.title='broken'</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    card = write_phantoms(folder, "chest-xray", 3, val=1, format="png")
    card.write_text(
        card.read_text().replace("title: Synthetic chest X-ray", f'title: "{HOSTILE}"').replace("- X-ray", f'- "{HOSTILE}"')
    )
    (folder / "images" / "chest_002.png").write_bytes(b"no picture")
    problems = voxelry.check(card, report=folder / "page.html")
    return folder / "page.html", problems


def test_every_case_is_on_the_page_and_broken_ones_say_why(page):
    file, problems = page
    html = file.read_text(encoding="utf-8")
    assert html.count("<article") == 3
    assert html.count("data:image/webp") == 2
    [error] = [problem for problem in problems if problem.kind == "error"]
    assert error.case == "chest_002"
    assert "error: " in html
    assert "Grey values of" in html
    assert HOSTILE not in html


def test_the_page_opens_offline_and_sorts(page, chromium, tmp_path):
    browser = Browser(tmp_path)
    try:
        browser.open(page[0].as_uri())
        assert browser.value("document.title") == f"voxelry check: {HOSTILE}"
        assert browser.value("document.querySelectorAll('.tiles img').length") == 2
        browser.until(
            "[...document.querySelectorAll('.tiles img')].every(each => each.complete)"
        )  # in print too, not by scrolling
        width = "each => each.decode().then(() => each.naturalWidth)"
        assert (
            browser.value(f"Promise.all([...document.querySelectorAll('.tiles img')].map({width})).then(all => Math.min(...all))")
            > 100
        )
        browser.value("document.querySelector('#numbers-table thead th:nth-child(7) button').click()")
        assert (
            browser.value("document.querySelector('#numbers-table th[aria-sort=ascending]').textContent") == "median grey value"
        )
        assert browser.messages == []
        assert {url for url in browser.requests if not url.startswith("data:")} == {page[0].as_uri()}
    finally:
        browser.close()


def test_a_page_of_something_else_is_not_replaced(tmp_path):
    card = write_phantoms(tmp_path / "set", "chest-xray", 1, format="png")
    mine = tmp_path / "page.html"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="was not written by this command"):
        voxelry.check(card, report=mine)
    assert mine.read_text() == "mine"
    with pytest.raises(UsageError, match="is the input"):
        voxelry.check(card, report=card)


def test_a_dataset_without_labels_or_with_constant_images_has_a_page(tmp_path):
    grid = Geometry.from_spacing((12, 10, 8), (1.0, 1.0, 1.0))
    voxelry.write(Volume(np.zeros((1, *grid.shape), np.int16), grid, modality="CT"), tmp_path / "a.nii.gz")
    card = tmp_path / "card.yaml"
    card.write_text(
        "{name: x, modality: CT, labels: [{value: 1, name: liver}], cases: [{id: a, images: [a.nii.gz], split: test}]}"
    )
    voxelry.check(card, report=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("data:image/webp") == 1


@pytest.mark.parametrize(
    ("value", "text"), [(43290.0, "43290"), (1234567.0, "1234567"), (999.96, "1000"), (127.0, "127"), (0.052344, "0.05234")]
)
def test_thousands_of_voxels_are_written_as_people_do(value, text):
    assert dataset_page._number(value) == text
