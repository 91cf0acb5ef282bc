from xml.etree import ElementTree

from voxelry.reports.learning import write_curves
from voxelry.training.checkpoint import Milestone

SVG = "{http://www.w3.org/2000/svg}svg"


def history(count, validation=None):
    return [Milestone(step, 1.0 / step, 0.1 * step, {}, 1.0, 0.1, validation) for step in range(1, count + 1)]


def test_every_network_has_its_row_of_plots(tmp_path):
    page, picture = write_curves({"2d, fold 0": history(5), "3d <x>": history(3, 0.5)}, tmp_path, "A & B")
    drawn = ElementTree.parse(picture).getroot()
    plots = drawn.findall(SVG)
    assert [(plot.get("x"), plot.get("y")) for plot in plots] == [
        ("0", "26"), ("460", "26"), ("0", "272"), ("460", "272"), ("920", "272"),
    ]  # fmt: skip
    assert [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "heading"] == [
        "2d, fold 0", "3d <x>",
    ]  # fmt: skip
    html = page.read_text()
    assert html.count("<svg ") == 5
    assert "3d &lt;x&gt;" in html
    assert "A &amp; B" in html
    assert "<script" not in html


def test_a_run_without_milestones_has_an_empty_picture(tmp_path):
    _, picture = write_curves({"3d": []}, tmp_path, "none")
    assert not ElementTree.parse(picture).getroot().findall(SVG)
