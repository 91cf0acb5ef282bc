"""Nothing that the toolkit says or writes, but for DICOM objects themselves, carries what identifies a patient.

A phantom whose headers are marked is run through the whole command line, errors included. No output, log record (down to DEBUG)
or file that is not DICOM may hold a mark. Paths are the user's own words; `inspect --names` alone shows names: it was asked to.
"""

import gzip
import json
import logging
import re
import shutil
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset, config, dcmread
from pydicom.dataelem import DataElement
from pydicom.uid import generate_uid

from helpers.command import run
from helpers.written import FORMATS
from voxelry.base.files import write_yaml

MARK = "zqxmark"
"""Begins every value that identifies the patient; nothing else holds it."""

TEXTS = (
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName",
    "PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "MilitaryRank", "Occupation", "PatientComments",
    "AdditionalPatientHistory", "AccessionNumber", "StudyID", "StudyDescription", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "ReferringPhysicianName", "ReferringPhysicianAddress", "PhysiciansOfRecord",
    "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName", "RequestingPhysician", "StationName",
    "MedicalRecordLocator", "AdmissionID", "ImageComments", "RequestedProcedureDescription",
    "DeviceSerialNumber", "ProtocolName", "PatientReligiousPreference", "RegionOfResidence", "EthnicGroup",
)  # fmt: skip
WRONG = {
    "PatientBirthDate": ("DA", "zqxmark1"),
    "StudyDate": ("DA", "zqxmark2"),
    "StudyTime": ("TM", "zqxmarktime"),
    "PatientAge": ("AS", "zqxmarkage"),
    "PatientSex": ("CS", "zqxmark-sex-too-long"),
    "PatientWeight": ("LO", "zqxmarkweight"),
}
"""Values that their VR does not allow, or in another VR, which libraries like to quote in warnings."""


def marks(folder: Path) -> None:
    """Mark every DICOM file below a folder."""
    for file in folder.rglob("*.dcm"):
        data = dcmread(file)
        mark(data)
        data.save_as(file, enforce_file_format=True)


def mark(data: Dataset) -> None:
    for number, keyword in enumerate(TEXTS):
        setattr(data, keyword, f"{MARK}{number}")
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = f"{MARK}other", "TEXT"
    data.OtherPatientIDsSequence = [other]
    block = data.private_block(0x0011, "ZQXMARKER", create=True)
    block.add_new(0x01, "LO", f"{MARK}private")
    for keyword, (vr, value) in WRONG.items():
        data[keyword] = DataElement(keyword, vr, value, validation_mode=config.IGNORE)


@pytest.fixture(scope="module")
def marked(torso, tmp_path_factory) -> Path:
    """The coarse torsos with marked headers, their manifest and recipe."""
    folder = tmp_path_factory.mktemp("privacy") / "data"
    shutil.copytree(torso, folder)
    marks(folder / "images")
    return folder


def held(content: bytes) -> list[str]:
    """The marks in some bytes, plain or as any text encoding or compression that files of ours use."""
    texts = [content, *_unpacked(content)]
    found = {hit for text in texts for hit in re.findall(rb"(?i)zqxmark[\w^]{0,30}", text.replace(b"\0", b""))}
    return sorted(hit.decode() for hit in found)


def _unpacked(content: bytes) -> list[bytes]:
    if content[:2] == b"\x1f\x8b":
        return [gzip.decompress(content)]
    if content[:4] == b"\x89PNG":
        return [zlib.decompress(data.split(b"\0\0", 1)[1]) for kind, data in _chunks(content) if kind == b"zTXt"]
    return []


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG: type and data."""
    at, found = 8, []
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += size + 12
    return found


def strange(folder: Path) -> dict[str, list[str]]:
    """Files below a folder that are not DICOM and hold a mark."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file() and not _is_dicom(file) and held(file.read_bytes()):
            found[file.name] = held(file.read_bytes())
    return found


def _is_dicom(file: Path) -> bool:
    return file.stat().st_size > 132 and file.read_bytes()[128:132] == b"DICM"


@pytest.fixture
def quiet(caplog, capfd):
    """Runs the command line and checks that neither its streams nor any log record hold a mark; gives its exit code."""

    def checked(*words: str | Path) -> int:
        caplog.clear()
        with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = run(*words)
        own = [str(word) for word in words]
        said = {
            "stdout": result.stdout, "stderr": result.stderr,
            "descriptors": "".join(capfd.readouterr()),
            "log": "\n".join(f"{record.name} {record.getMessage()} {record.exc_text or ''}" for record in caplog.records
                             if record.name.startswith("voxelry")),
        }  # fmt: skip
        for stream, text in said.items():
            assert held(text.encode()) == [], (stream, own)
        ours = [str(one.message) for one in warned if "voxelry" in one.filename]
        assert held("\n".join(ours).encode()) == []
        return result.exit_code

    return checked


def test_the_marks_are_there(marked):
    """The guard of the guard: what is looked for can be found, in files and by `inspect --names`."""
    file = next((marked / "images" / "torso_000").glob("*.dcm"))
    assert len(held(file.read_bytes())) >= len(TEXTS)
    assert _is_dicom(file)
    result = run("inspect", marked / "images" / "torso_000", "--names", "--json")
    assert held(result.stdout.encode())


def test_looking(marked, quiet):
    for arguments in (["inspect", marked / "images"], ["inspect", marked / "images", "--json"], ["version"]):
        assert quiet(*arguments) == 0
    for verb in ("check", "plan"):
        assert quiet(verb, marked / "manifest.yaml") == 0
        assert quiet(verb, marked / "manifest.yaml", "--json") == 0


@pytest.mark.slow
def test_training_segmenting_and_scoring(marked, quiet, tmp_path):
    run_folder, out = tmp_path / "run", tmp_path / "out"
    assert quiet("train", marked / "recipe.yaml", "--out", run_folder, "--set", "steps=2") == 0
    model, scans, one = run_folder / "model", marked / "images", tmp_path / "one"
    formats = [word for name in ("nifti", "dicom-seg", "seg-nrrd", "stl") for word in ("--format", name)]
    assert quiet("predict", model, scans / "torso_000", "--out", one, *formats, "--confidence", "entropy") == 0
    assert quiet("predict", model, scans, "--out", out, "--json") == 0
    assert quiet("evaluate", marked / "labels", out, "--out", tmp_path / "scores") == 0
    assert quiet("evaluate", marked / "manifest.yaml", out, "--metric", "surface", "--json") == 0
    assert quiet("compare", tmp_path / "scores", tmp_path / "scores") == 0
    assert any(file.suffix == ".gz" for file in out.iterdir())
    assert all(any((folder / "report_cases").iterdir()) for folder in (run_folder, out, tmp_path / "scores"))
    assert strange(tmp_path) == {}


@pytest.mark.slow
def test_the_demo(marked, quiet, tmp_path):
    assert quiet("demo", "--out", tmp_path / "demo", "--manifest", marked / "manifest.yaml", "--time-budget", "1s") in (0, 1)
    assert list((tmp_path / "demo").rglob("*.html"))
    assert strange(tmp_path) == {}


@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if 3 in kind.axes])
def test_converting(marked, quiet, tmp_path, name):
    mask = next((marked / "labels").glob("torso_000*"))
    series = marked / "images" / "torso_000"
    out = tmp_path / f"out{FORMATS[name].ending}"
    assert quiet("convert", mask, out, "--reference", series) == 0
    assert quiet("convert", mask, out, "--reference", series, "--json") == 0
    assert strange(tmp_path) == {}
    if name in ("dicom-seg", "rtstruct"):  # and out of DICOM again
        for ending in (".seg.nrrd", ".nii.gz", ".glb", ".rtstruct.dcm", ".seg.dcm"):
            assert quiet("convert", out, tmp_path / f"again{ending}", "--reference", series) == 0
        assert strange(tmp_path) == {}


@pytest.mark.slow
def test_mistakes(marked, quiet, tmp_path, torso_model):
    mask = next((marked / "labels").glob("torso_000*"))
    good = marked / "images" / "torso_000"
    for place in (_truncated(good, tmp_path), _gap(good, tmp_path), _mixed(marked, tmp_path), _renamed(good, tmp_path)):
        assert quiet("inspect", place) in (0, 1)
        assert quiet("inspect", place, "--json") in (0, 1)
        ends = (0,) if place.name == "mixed" else (1, 2)  # each series of a folder is a scan
        assert quiet("predict", torso_model, place, "--out", tmp_path / f"out-{place.name}") in ends
        assert quiet("convert", mask, tmp_path / "x.seg.dcm", "--reference", place) == 2
        assert quiet("convert", mask, tmp_path / "x.rtstruct.dcm", "--reference", place, "--format", "rtstruct") == 2
    assert quiet("convert", mask, tmp_path / "seg.seg.dcm", "--reference", good) == 0
    assert quiet("convert", tmp_path / "seg.seg.dcm", tmp_path / "y.rtstruct.dcm", "--reference", _other(marked, tmp_path)) == 2
    assert quiet("convert", next(good.glob("*.dcm")), tmp_path / "y.nii.gz") == 2
    assert quiet("evaluate", next(good.glob("*.dcm")), mask) == 2
    assert quiet("check", good) == 2
    patients = tmp_path / "list.csv"
    patients.write_text(f"{MARK};1950\n" * 20)
    assert quiet("convert", patients, tmp_path / "z.nii.gz") == 2
    assert quiet("inspect", patients) == 1
    patients.unlink()
    write_yaml(tmp_path / "card.yaml", {"name": "x"})
    assert quiet("check", tmp_path / "card.yaml") == 2
    assert strange(tmp_path) == {}


def _copy(series: Path, folder: Path) -> Path:
    shutil.copytree(series, folder)
    return folder


def _truncated(series: Path, folder: Path) -> Path:
    """A series of which one file ends in the middle of its header, and one in its pixels."""
    made = _copy(series, folder / "truncated")
    first, second = sorted(made.glob("*.dcm"))[:2]
    first.write_bytes(first.read_bytes()[:900])
    second.write_bytes(second.read_bytes()[:-300])
    return made


def _gap(series: Path, folder: Path) -> Path:
    made = _copy(series, folder / "gap")
    sorted(made.glob("*.dcm"))[4].unlink()
    return made


def _mixed(marked: Path, folder: Path) -> Path:
    """Two patients in one folder."""
    made = _copy(marked / "images" / "torso_000", folder / "mixed")
    for file in (marked / "images" / "torso_001").glob("*.dcm"):
        shutil.copy(file, made / f"other-{file.name}")
    return made


def _renamed(series: Path, folder: Path) -> Path:
    """A series whose slices name different studies and hold positions that are no numbers."""
    made = _copy(series, folder / "renamed")
    for number, file in enumerate(sorted(made.glob("*.dcm"))):
        data = dcmread(file)
        data.StudyInstanceUID = generate_uid()
        if number == 2:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data["PixelSpacing"] = DataElement("PixelSpacing", "LO", f"{MARK}spacing")
        data.save_as(file, enforce_file_format=True)
    return made


def _other(marked: Path, folder: Path) -> Path:
    return _copy(marked / "images" / "torso_001", folder / "other")


@pytest.mark.slow
def test_in_a_process_of_its_own_warnings_of_libraries_stay_unseen(marked, tmp_path):
    """As users run it: warnings and logs of libraries go to the real standard error."""
    mask = next((marked / "labels").glob("torso_000*"))
    program = Path(sys.executable).with_name("voxelry")
    for words in (
        ["inspect", marked / "images"],
        ["convert", mask, tmp_path / "o.seg.dcm", "--reference", marked / "images" / "torso_000"],
        ["convert", mask, tmp_path / "o.sr.dcm", "--reference", marked / "images" / "torso_000"],
        ["convert", mask, tmp_path / "o.rtstruct.dcm", "--reference", marked / "images" / "torso_000"],
    ):
        done = subprocess.run([program, *map(str, words)], capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert held(done.stdout) == held(done.stderr) == []


def test_marks_would_be_seen(tmp_path):
    """Each way that a mark could hide in is looked into."""
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"..zqxmark1..", mtime=0))
    (tmp_path / "b.json").write_text(json.dumps({"name": "ZQXMARK2"}))
    (tmp_path / "c.txt").write_bytes("zqxmark3".encode("utf-16-le"))
    np.save(tmp_path / "d.npy", np.zeros(3))
    texts = PngInfo()
    texts.add_text("Patient", "zqxmark4", zip=True)
    Image.new("L", (3, 3)).save(tmp_path / "e.png", pnginfo=texts)
    assert strange(tmp_path).keys() == {"a.nii.gz", "b.json", "c.txt", "e.png"}
