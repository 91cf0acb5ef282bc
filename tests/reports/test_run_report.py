"""Reports of runs: what is in the page, that names stay text, and the page in a browser, opened from disk."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import voxelry
from helpers.chromium import Browser
from voxelry.cohort.evaluation import write_scores
from voxelry.cohort.ledger import Ledger, LedgerCase
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import CorruptFileError, MissingFileError, UsageError
from voxelry.metrics.families import measure
from voxelry.metrics.scores import Scores
from voxelry.reports.finished_run import read_run
from voxelry.reports.run_cases import CaseImages
from voxelry.reports.run_record import RunCase, RunRecord
from voxelry.reports.run_report import Viewing, write_report

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>\"'&\u202e<!--"
RED, BLUE = (230, 30, 30), (40, 40, 240)
GRID = Geometry.from_spacing((24, 20, 16), (4, 4, 5), (-48, -40, -40))
TABLE = LabelTable(labels=(Label(value=1, name=HOSTILE[:64], color=RED), Label(value=2, name="spleen", color=BLUE, kind="thing")))


def scan(_: RunCase) -> CaseImages:
    """In RAS: a red organ to the patient's right (high x) and in front, a blue one to the left and behind."""
    array = np.zeros(GRID.shape, np.uint8)
    array[14:21, 11:17, 4:12] = 1
    array[3:10, 3:9, 4:12] = 2
    grey = np.full((1, *GRID.shape), 100, np.int16)
    grey[:, 2:22, 2:18] = 200
    labels = LabelMap.of(array, GRID, TABLE)
    return CaseImages(Volume(grey, GRID, modality="MR"), labels, replace(labels, layers=np.roll(labels.layers, 1, axis=1)))


def picture(_: RunCase) -> CaseImages:
    grid = Geometry((60, 40), None, None)
    array = np.zeros((60, 40), np.uint8)
    array[10:50, 4:16] = 1
    return CaseImages(Volume(np.full((1, 60, 40), 80, np.uint8), grid), LabelMap.of(array, grid, TABLE))


def scores(count: int, failed: dict[str, str] | None = None) -> Scores:
    rng = np.random.default_rng(0)
    counts = np.array([[[90, a], [b, 60]] for a, b in rng.integers(0, 40, (count, 2))])
    return Scores(tuple(f"case {n}" for n in range(count)), ("liver",), counts, failed=failed or {})


def record(cases: int = 3) -> RunRecord:
    named = [RunCase(f"{HOSTILE} {n}", (Path("x"),), mean_dice=0.5 + n / 10, flags=(HOSTILE,)) for n in range(cases)]
    return RunRecord("predict", Path("run"), (HOSTILE,), (*named, RunCase("bad", error=HOSTILE)), cards=(("a", HOSTILE),))


class Words(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


# ---- what is in it


def test_an_evaluation_finds_its_inputs_and_ranks_its_cases(tmp_path):
    write_scores(scores(5, {"case 9": "no mask"}), tmp_path / "scores")
    run = read_run(tmp_path / "scores")
    dice = {case.id: case.mean_dice for case in run.cases if case.mean_dice is not None}
    assert run.picks["Worst"].mean_dice == min(dice.values())
    assert run.picks["best"].mean_dice == max(dice.values())
    assert run.picks["median"].mean_dice == sorted(dice.values())[2]
    page = voxelry.report(tmp_path / "scores")
    text = Words(page.read_text(encoding="utf-8")).text
    assert "no mask" in text
    assert "(0." in text  # an interval
    assert voxelry.report(tmp_path / "scores") == page  # its own page is replaced
    page.write_text("mine")
    with pytest.raises(UsageError, match="changed"):
        voxelry.report(tmp_path / "scores")


def test_masks_and_references_are_looked_at_without_scans(tmp_path):
    images = scan(RunCase("a"))
    for name, map in (("masks", images.prediction), ("labels", images.reference)):
        (tmp_path / name).mkdir()
        voxelry.write(map, tmp_path / name / "a.nii.gz")
    found = voxelry.evaluate(tmp_path / "labels", tmp_path / "masks")
    write_scores(found, tmp_path / "scores", [tmp_path / "labels", tmp_path / "masks"])
    voxelry.report(tmp_path / "scores")
    [script] = (tmp_path / "scores" / "report_cases").iterdir()
    data = json.loads(script.read_text().removeprefix('voxelry.add("case_0", ').removesuffix(");"))
    assert {"scan", "prediction", "reference", "errors"} <= set(data)
    assert "not known" in data["note"]  # why it is on black


def test_a_batch_shows_failures_and_ranks_by_doubt(tmp_path):
    quality = [{"doubt": 0.1, "flags": []}, {"doubt": 0.7, "flags": ["upside down"]}]
    with Ledger(tmp_path) as ledger:
        done = [
            LedgerCase(
                f"case {n}", n, (f"scans/{n}.nii.gz",), "r", "s", "done", details={"flags": ["f"], "facts": {"quality": row}}
            )
            for n, row in enumerate(quality)
        ]
        ledger.put([*done, LedgerCase("case 2", 2, ("scans/2.nii.gz",), "r", "s", "failed", error="truncated")])
    run = read_run(tmp_path)
    assert [case.id for case in run.by_doubt] == ["case 1", "case 0"]
    assert run.by_doubt[0].flags == ("f", "upside down")
    assert [(case.id, case.error) for case in run.cases if case.error] == [("case 2", "truncated")]
    assert run.notes == ("3 scans: 2 done, 1 failed.",)


def test_a_training_run_has_curves_settings_and_card(tmp_path):
    images = scan(RunCase("a"))
    rows = measure(images.reference, images.prediction, "case 1")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("# Card of the model")
    (tmp_path / "recipe.yaml").write_text("manifest: none.yaml\n")
    (tmp_path / "validation.json").write_text(json.dumps({"rows": rows.rows()}))
    (tmp_path / "history.jsonl").write_text(
        '{"step": 5, "loss": 1.0, "pseudo_dice": 0.5}\n{"step": 9, "loss": 0.5, "pseudo_dice": 0.6}\n'
    )
    html = voxelry.report(tmp_path).read_text(encoding="utf-8")
    text = Words(html).text
    assert "Card of the model" in text
    assert "manifest: none.yaml" in text
    assert "9 steps." in text
    assert "Training loss" in text
    assert len(html) < 100_000  # without a viewer, as there is nothing to look at


def test_a_comparison_says_who_wins(tmp_path):
    for name, shift in (("a", 0), ("b", 20)):
        other = scores(12)
        write_scores(replace(other, confusions=other.confusions + np.array([[0, shift], [0, 0]])), tmp_path / name)
    text = Words(voxelry.report(tmp_path / "a", tmp_path / "b").read_text(encoding="utf-8")).text
    assert "A wins 2, B wins 0" in text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="no run"):
        voxelry.report(tmp_path)
    with pytest.raises(UsageError, match="-1 cases"):
        voxelry.report(tmp_path, cases=-1)


def test_names_are_text_and_add_no_element(tmp_path):
    viewing = Viewing(scan, record().cases[:3], 3, 10**7, inside=True)
    hostile = Words(write_report(record(), tmp_path / "a.html", HOSTILE, viewing).read_text(encoding="utf-8"))
    plain = replace(
        record(), cases=tuple(replace(case, flags=("x",)) for case in record().cases), notes=("x",), cards=(("a", "x"),)
    )
    named = replace(plain, cases=tuple(replace(case, id=f"n{n}", error=case.error and "x") for n, case in enumerate(plain.cases)))
    harmless = Words(
        write_report(named, tmp_path / "b.html", "x", Viewing(scan, named.cases[:3], 3, 10**7, True)).read_text(encoding="utf-8")
    )
    assert hostile.tags == harmless.tags
    assert hostile.text.count(HOSTILE) >= 8
    assert not (tmp_path / "a_cases").exists()


def test_a_page_holds_no_more_than_its_size(tmp_path):
    cases = record().cases[:3]
    write_report(record(), tmp_path / "a.html", "x", Viewing(scan, cases, 3))
    sizes = [file.stat().st_size for file in sorted((tmp_path / "a_cases").iterdir())]
    page = write_report(record(), tmp_path / "b.html", "x", Viewing(scan, cases, 3, sum(sizes[:2]), True))
    html = page.read_text(encoding="utf-8")
    assert html.count("voxelry.add(") == 2
    assert html.count("is left out of the viewer") == 1


def test_a_case_that_cannot_be_read_is_left_out(tmp_path, caplog):
    def read(case: RunCase) -> CaseImages:
        if case.id.endswith("1"):
            raise CorruptFileError("a.nii.gz: is truncated")
        return scan(case)

    write_report(record(), tmp_path / "a.html", "x", Viewing(read, record().cases[:3], 3))
    assert len([*(tmp_path / "a_cases").iterdir()]) == 2
    assert "is truncated" in caplog.text


def test_a_scan_beyond_the_bound_of_memory_is_named_and_not_decoded(tmp_path):
    def large(case: RunCase) -> CaseImages:
        images = scan(case)
        if case.id.endswith("1"):
            grid = Geometry.from_spacing((4000, 4000, 4000), (1, 1, 1), (0, 0, 0))
            images = replace(images, volume=Volume(lambda: pytest.fail("decoded"), grid))
        return images

    page = write_report(record(), tmp_path / "a.html", "x", Viewing(large, record().cases[:3], 3, voxels=10**9))
    assert len([*(tmp_path / "a_cases").iterdir()]) == 2
    assert "its scan has 64,000,000,000 voxels" in page.read_text(encoding="utf-8")


def test_500_cases_are_a_small_page(tmp_path):
    write_scores(scores(500), tmp_path / "scores")
    assert voxelry.report(tmp_path / "scores").stat().st_size < 10e6


# ---- in a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(record(), folder / "report.html", HOSTILE, Viewing(scan, record().cases[:3], 3))


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("browser"))
    yield running
    running.close()


def look(browser: Browser, path: Path, key: str) -> None:
    """Open a page and look at a case."""
    browser.messages.clear()
    browser.requests.clear()
    browser.open(path.as_uri())
    browser.value(f"document.querySelector('button.view[data-case={key}]').click()")
    browser.until("/shown|failed/.test(document.getElementById('viewer-state').dataset.state)")
    assert browser.value("document.getElementById('viewer-state').textContent") == ""


def choose(browser: Browser, id: str, value: str) -> None:
    """Set a field, as a user does."""
    field = f"document.getElementById('{id}')"
    browser.value(f"{field}.value = '{value}'; for (const kind of ['input', 'change']) {field}.dispatchEvent(new Event(kind))")


def text(browser: Browser, id: str) -> str:
    return str(browser.value(f"document.getElementById('{id}').textContent"))


def pixels(browser: Browser, id: str) -> np.ndarray:
    """What is seen of an element, after the next frames."""
    browser.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    x, y, width, height = browser.value(
        f"(() => {{ const box = document.getElementById('{id}').getBoundingClientRect();"
        " return [box.x + scrollX, box.y + scrollY, box.width, box.height]; })()"
    )
    clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
    data = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
    return np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def clear(shown: np.ndarray, channel: int) -> np.ndarray:
    """Where pixels are clearly red (0) or blue (2)."""
    others = [each for each in range(3) if each != channel]
    return np.minimum(*(shown[..., channel] - shown[..., other] for other in others)) > 50


def place(shown: np.ndarray, channel: int) -> tuple[float, float]:
    """The mean place of pixels that are clearly red (0) or blue (2), as shares of the picture."""
    rows, columns = np.nonzero(clear(shown, channel))
    assert len(rows) > 100
    return columns.mean() / shown.shape[1], rows.mean() / shown.shape[0]


def files_asked(browser: Browser) -> set[str]:
    return {url if not url.startswith("file:") else Path(url).name for url in browser.requests if not url.startswith("data:")}


def test_the_viewer_shows_labels_on_their_sides_and_stays_offline(page, browser):
    look(browser, page, "case_0")
    choose(browser, "viewer-layout", "0")  # axial
    axial = pixels(browser, "viewer-canvas")
    assert axial.std() > 5
    organ, spleen = place(axial, 0), place(axial, 2)
    assert organ[0] < 0.5 < spleen[0]  # the patient's right is at the left
    assert organ[1] < 0.5 < spleen[1]  # the front is on top
    choose(browser, "viewer-prediction", "0")
    faded = pixels(browser, "viewer-canvas")
    assert clear(faded, 0).sum() < 20
    choose(browser, "viewer-errors", "1")
    assert np.abs(pixels(browser, "viewer-canvas") - faded).max() > 50
    objects = browser.value("[...document.getElementById('viewer-jump').options].map(each => each.textContent)")
    choose(browser, "viewer-jump", str([name.startswith("prediction: spleen") for name in objects].index(True) - 1))
    assert " L " in text(browser, "viewer-place")
    assert "prediction: spleen" in text(browser, "viewer-place")
    assert HOSTILE[:64] in text(browser, "viewer-legend")
    assert browser.value("document.title") == HOSTILE
    assert browser.messages == []
    assert files_asked(browser) == {"report.html", "case_0.js"}


@pytest.mark.parametrize(
    ("layout", "key", "moved"),
    [
        ("0", "ArrowLeft", (1, 0, 0)),  # axial and coronal: the patient's right is at the left
        ("0", "ArrowUp", (0, 1, 0)),
        ("0", "PageUp", (0, 0, 1)),
        ("1", "ArrowUp", (0, 0, 1)),
        ("2", "ArrowLeft", (0, 1, 0)),  # sagittal: the front is at the left
        ("2", "ArrowDown", (0, 0, -1)),
    ],
)
def test_keys_move_the_cross_as_the_screen_shows_it(page, browser, layout, key, moved):
    if not browser.value("Boolean(window.voxelry?.viewer?.())"):
        look(browser, page, "case_0")
    choose(browser, "viewer-layout", layout)
    browser.value("voxelry.viewer().moveCrosshairInVox(0, 0, 0)")  # from between voxels into one
    cross = "Array.from(voxelry.viewer().frac2mm(voxelry.viewer().scene.crosshairPos)).slice(0, 3)"
    before = np.array(browser.value(cross))
    press = f"new KeyboardEvent('keydown', {{key: '{key}', cancelable: true}})"
    assert browser.value(f"document.getElementById('viewer-canvas').dispatchEvent({press})") is False  # the page does not scroll
    steps = (np.array(browser.value(cross)) - before) / (4, 4, 5)
    np.testing.assert_allclose(steps, moved, atol=0.01)


def test_two_clicks_in_a_hurry_show_the_second_case_whole(page, browser):
    browser.messages.clear()
    browser.open(page.as_uri())
    browser.value("for (const n of [0, 1]) document.querySelector(`button.view[data-case=case_${n}]`).click()")
    state = "document.getElementById('viewer-state').dataset.state === 'shown'"
    browser.until(f"document.getElementById('viewer-case').textContent.endsWith(' 1') && {state}")
    assert browser.value("voxelry.viewer().volumes.length") == 4  # scan, prediction, reference, errors
    assert browser.messages == []


def test_a_page_of_any_name_finds_its_cases(tmp_path, browser):
    pages = [tmp_path / "a #1?%41.html", tmp_path / "b.html"]
    for number, name in enumerate(pages):
        write_report(record(), name, "x", Viewing(scan, record().cases[number : number + 1], 1))
    for number, name in enumerate(pages):  # neither has taken the other's
        browser.open(name.as_uri())
        browser.value("voxelry.view('case_0')")
        assert text(browser, "viewer-case") == f"{HOSTILE} {number}"


def test_worst_median_and_best_are_seen_without_a_click(tmp_path, browser):
    rows = tuple(RunCase(f"{HOSTILE} {n}", (Path("x"),), mean_dice=0.5 + n / 10) for n in range(5))
    run = RunRecord("evaluate", Path("run"), (), rows)
    browser.messages.clear()
    browser.open(write_report(run, tmp_path / "report.html", "x", Viewing(scan, rows, 3)).as_uri())
    captions = browser.value("[...document.querySelectorAll('figcaption')].map(each => each.textContent.trim())")
    assert [caption.partition(":")[0] for caption in captions] == ["Worst", "Median", "Best"]
    assert "mean Dice 0.500" in captions[0]
    assert HOSTILE in captions[2]
    browser.until("[...document.querySelectorAll('figure img')].every(each => each.complete)")
    assert min(browser.value("[...document.querySelectorAll('figure img')].map(each => each.naturalWidth)")) > 500
    browser.value("document.querySelector('figure button').click()")
    browser.until("document.getElementById('viewer-state').dataset.state === 'shown'")
    assert text(browser, "viewer-case") == f"{HOSTILE} 0"
    assert browser.messages == []


def test_two_models_are_seen_one_after_the_other(tmp_path, browser):
    def both(case: RunCase) -> CaseImages:
        images = scan(case)
        nothing = replace(images.prediction, layers=np.zeros_like(images.prediction.layers))
        return replace(images, prediction=nothing, other=images.prediction, reference=images.prediction)

    rows = tuple(RunCase(f"{HOSTILE} {n}", (Path("x"),), mean_dice=0.9, change=0.9 - n / 10) for n in range(3))
    compared = RunRecord("compare", Path("run"), (HOSTILE,), rows)
    assert [case.id[-1] for case in compared.picks.values()] == ["2", "1", "0"]
    look(browser, write_report(compared, tmp_path / "report.html", HOSTILE, Viewing(both, rows[:1], 3, 10**7, True)), "case_0")
    choose(browser, "viewer-layout", "0")
    assert clear(pixels(browser, "viewer-canvas"), 0).sum() < 20  # A shows nothing
    choose(browser, "viewer-other", "0.5")
    assert place(pixels(browser, "viewer-canvas"), 0)[0] < 0.5  # B shows the organ, on the patient's right
    choose(browser, "viewer-other", "0")
    choose(browser, "viewer-errors", "1")
    missed = pixels(browser, "viewer-canvas")
    choose(browser, "viewer-errors", "0")
    choose(browser, "viewer-other_errors", "1")
    right = pixels(browser, "viewer-canvas")
    assert (np.abs(missed - right).max(axis=-1) > 50).sum() > 100  # A missed the organ, B did not
    assert browser.messages == []
    assert files_asked(browser) == {"report.html"}


def test_tables_sort_and_filter(page, browser):
    browser.open(page.as_uri())
    click = "document.querySelector('#all thead th:nth-child(2) button').click()"
    column = "[...document.querySelectorAll('#all tbody tr:not([hidden]) td:nth-child(2)')].map(cell => cell.textContent)"
    browser.value(click)
    assert browser.value(column) == ["0.500", "0.600", "0.700"]
    browser.value(click)
    assert browser.value(column) == ["0.700", "0.600", "0.500"]
    filter = "document.querySelector('input[data-table=all]')"
    browser.value(f"{filter}.value = '0.6'; {filter}.dispatchEvent(new Event('input'))")
    assert browser.value(column) == ["0.600"]
    assert text(browser, "all-count") == "1 shown"


def test_a_picture_is_shown_with_its_outlines(tmp_path, browser):
    viewing = Viewing(picture, record().cases[:1], 1, 10**7, True)
    look(browser, write_report(record(), tmp_path / "report.html", "x", viewing), "case_0")
    assert place(pixels(browser, "viewer-picture"), 0)[0] < 0.5
    assert browser.value("document.getElementById('viewer-canvas').hidden")
    assert browser.value("document.getElementById('viewer-window').disabled")
    assert browser.messages == []
    assert files_asked(browser) == {"report.html"}
