import io
import logging
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import dcmread
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from helpers.command import save
from voxelry.base.files import write_yaml
from voxelry.cli import main as cli
from voxelry.cli.printable import PrintableContent, PrintableFormatter, printable
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.formats.writer import write
from voxelry.phantom.acquisition import Acquisition
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.phantom import make_phantom

EVIL = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202eabc\x7f\x08"
STEERING = {"Cc", "Cs", "Zl", "Zp"}
TURNING = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}


def is_safe(text):
    plain = text.replace("\n", "").replace("\t", "")
    return not any(unicodedata.category(c) in STEERING or unicodedata.bidirectional(c) in TURNING for c in plain)


@given(st.text(st.characters()))
@example(EVIL)
@example("\ud800")
def test_no_character_is_left_that_steers_a_terminal(text):
    assert is_safe(printable(text))
    assert printable(text) == text or not is_safe(text) or any(c in "\u061c\u200e\u200f" for c in text)
    printable(text).encode()


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])))
def test_other_text_stays(text):
    assert printable(text + "\n\tä脾") == text + "\n\tä脾"


def test_tables_keep_their_colours_and_lose_those_of_the_text():
    table = Table("head")
    table.add_row(EVIL, style="bold")
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=100).print(PrintableContent(table))
    assert "\x1b[1m" in stream.getvalue()
    assert "\x1b[31m" not in stream.getvalue()
    assert r"\x1b[31mred" in stream.getvalue()


def test_log_lines_and_their_arguments_are_made_safe():
    record = logging.LogRecord("voxelry.x", logging.WARNING, "", 0, "case %s", (EVIL,), None)
    assert is_safe(PrintableFormatter("%(levelname)s: %(message)s").format(record))


def outputs(*words):
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


def evil_series(folder):
    """A series whose every text says something to the terminal."""
    [scan] = write_dicom(make_phantom("torso-ct", 0, Acquisition((80, 80, 80), (320, 240, 240), "LPS")), folder)
    evil = EVIL.encode("latin-1", "replace")
    for file in scan.iterdir():
        data = dcmread(file)
        for name in ("SeriesDescription", "PatientName", "PatientID", "StudyDescription", "ImageComments"):
            setattr(data, name, "Q" * len(evil))
        data.save_as(file)
        file.write_bytes(file.read_bytes().replace(b"Q" * len(evil), evil))
    return scan


@pytest.mark.filterwarnings("ignore:Found unknown escape")  # of pydicom
def test_header_texts_do_not_reach_the_terminal(tmp_path):
    scan = evil_series(tmp_path)
    for words in (("inspect", scan), ("inspect", scan, "--names"), ("inspect", scan, "--json")):
        text = outputs(*words)
        assert is_safe(text)
        assert r"x1b[31mred" in text or r"u001b[31mred" in text


def test_names_of_files_and_labels_do_not_reach_the_terminal(tmp_path):
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1] = 1
    folder = tmp_path / EVIL
    grid = Geometry.from_spacing(mask.shape, (1, 1, 1))
    labels = LabelMap.of(mask, grid, LabelTable(labels=(Label(value=1, name=EVIL.replace("\x07", "")),)))
    seg = write(labels, folder / f"{EVIL}.seg.nrrd")
    for words in (
        ("inspect", folder),
        ("inspect", tmp_path / f"{EVIL}.nii"),
        ("convert", seg, folder / "out.nii.gz"),
        ("convert", seg, folder / "out.stl"),
        ("convert", seg, folder / "out.rtstruct.dcm"),
        ("evaluate", seg, seg),
        ("evaluate", seg, seg, "--table", "markdown"),
        ("evaluate", seg, save(folder / "other.nii.gz")),
        ("evaluate", folder, tmp_path),
        ("compare", seg, seg),
        ("check", seg),
        ("predict", folder, seg, "--out", tmp_path / "out"),
    ):
        assert is_safe(outputs(*words)), words


def test_keys_and_values_of_cards_do_not_reach_the_terminal(tmp_path):
    card = tmp_path / "card.yaml"
    for content in ({EVIL: 1}, {"name": EVIL, "modality": EVIL}, {"cases": {"images": [EVIL]}}, {"labels": EVIL}):
        write_yaml(card, content)
        for words in (
            ("check", card),
            ("plan", card),
            ("train", card, "--out", tmp_path / "run"),
            ("train", card, "--set", f"{EVIL}=1"),
        ):
            assert is_safe(outputs(*words))


def test_what_decoders_write_to_standard_error_is_not_shown(tmp_path):
    """A child that writes to the file descriptor, as libraries in C and Rust do, and then as Python does."""
    code = (
        "import os, sys; from voxelry.cli.printable import keep_chatter_out; keep_chatter_out(); "
        "os.write(2, b'chatter'); print('ours', file=sys.stderr); os.write(1, b'result')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"result", b"ours\n")
