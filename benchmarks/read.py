"""The claim: voxelry reads a CT series as fast as `BARS` say, in at most `MEMORY_BAR` times the memory of its int16 array.

    python benchmarks/read.py [--quick] [--rounds N] [--json FILE]

A synthetic series (300 slices of 512 x 512, 12 bits, about 60 elements per header) is written uncompressed and in three lossless
codings. Every contestant has a process of its own that may use two processors, and reads the whole folder, from
listing it to an array in memory (dcm2niix: to an uncompressed NIfTI file), warm and in turn; figures are ratios of medians.
Memory is the peak of resident memory during a read less that before it. Each must find the values that were written. Exits with 1
if a bar does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES

PROCESSORS = 2
MEMORY_BAR = 1.3
BARS = {
    ("raw", "dcm2niix"): 0.5,
    ("raw", "simpleitk"): 1.2,
    ("lossless-jpeg", "simpleitk"): 1.0,
    ("jpeg-ls", "pydicom"): 1.5,
    ("jpeg-2000", "simpleitk"): 1.0,
}
"""How many times faster than the peer voxelry is to be at least; 0.5 is at most twice its time."""

PEERS = {
    "raw": ("dcm2niix", "simpleitk", "pydicom"),
    "lossless-jpeg": ("simpleitk", "pydicom"),
    "jpeg-ls": ("pydicom", "simpleitk"),
    "jpeg-2000": ("simpleitk", "pydicom"),
}
"""Series -> who reads it beside voxelry."""

LIBRARIES = ("numpy", "pydicom", "imagecodecs", "SimpleITK", "dcm2niix")


def lossless(coding: str) -> str:
    """The UID of the first lossless transfer syntax of a coding."""
    return next(row.uid for row in TRANSFER_SYNTAXES.values() if row.coding == coding and row.is_lossless)


SYNTAXES = {
    "raw": "1.2.840.10008.1.2.1",
    "lossless-jpeg": lossless("lossless JPEG"),
    "jpeg-ls": lossless("JPEG-LS"),
    "jpeg-2000": lossless("JPEG 2000"),
}
"""Series -> transfer syntax."""


def make_series(folder: Path, slices: int, size: int) -> None:
    """Write the series once per syntax, into a folder of its name, and its Hounsfield units as ``truth.npy``."""
    truth = np.lib.format.open_memmap(folder / "truth.npy", "w+", np.int16, (slices, size, size))
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    noise = rng.normal(0, 12, (size, 2 * size))
    for number in range(slices):
        body = (rows / 0.36) ** 2 + (columns / 0.44) ** 2 + 0.1 * np.sin(number / 20) < 1
        organ = 60 * np.sin(9 * rows + number / 30) * np.cos(7 * columns)
        shift = int(rng.integers(size))
        truth[number] = np.where(body, 40 + organ, -1000) + noise[:, shift : shift + size]
        truth[number][rows**2 + columns**2 > 0.25] = -1024
    np.clip(truth, -1024, 3071, out=truth)
    for name, syntax in SYNTAXES.items():
        (folder / name).mkdir()
        for number in range(slices):
            _write(folder / name / f"IM{number:04d}", truth[number], number, syntax)


def _write(path: Path, values: Any, number: int, syntax: str) -> None:
    import imagecodecs
    import jpeg_ls
    import openjpeg
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate

    data = _header(number, values.shape)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    stored = (values.astype(np.int32) + 1024).astype(np.uint16)
    if syntax == SYNTAXES["raw"]:
        data.PixelData = stored.tobytes()
        data["PixelData"].VR = "OW"
    elif syntax == SYNTAXES["lossless-jpeg"]:
        data.PixelData = encapsulate([imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=12)])
    elif syntax == SYNTAXES["jpeg-ls"]:
        coded = jpeg_ls.encode_buffer(
            stored.tobytes(), rows=data.Rows, columns=data.Columns, samples_per_pixel=1, bits_stored=12, interleave_mode=0
        )
        data.PixelData = encapsulate([bytes(coded)])
    else:
        data.PixelData = encapsulate([bytes(openjpeg.utils.encode_array(stored, bits_stored=12, photometric_interpretation=2))])
    data.save_as(path, enforce_file_format=True)


def _header(number: int, shape: tuple[int, ...]) -> Any:
    """What a scanner writes beside the pixels, short of its private elements."""
    from pydicom.dataset import Dataset

    data = Dataset()
    root = "1.2.826.0.1.3680043.8.498.7"
    for keyword in (
        "ImageType=ORIGINAL\\PRIMARY\\AXIAL SOPClassUID=1.2.840.10008.5.1.4.1.1.2 StudyDate=20260101 SeriesDate=20260101 "
        "AcquisitionDate=20260101 ContentDate=20260101 StudyTime=101500 SeriesTime=101600 AcquisitionTime=101700 "
        "ContentTime=101800 AccessionNumber=1 Modality=CT Manufacturer=NONE InstitutionName=NONE StationName=S "
        "StudyDescription=STUDY SeriesDescription=SERIES ManufacturerModelName=M PatientName=P PatientID=P "
        "PatientBirthDate=19700101 PatientSex=O PatientAge=056Y BodyPartExamined=CHEST ScanOptions=HELICAL SliceThickness=1 "
        "KVP=120 DataCollectionDiameter=500 DeviceSerialNumber=1 SoftwareVersions=1 ProtocolName=P "
        "ReconstructionDiameter=360 DistanceSourceToDetector=1040 DistanceSourceToPatient=570 GantryDetectorTilt=0 "
        "TableHeight=150 RotationDirection=CW ExposureTime=500 XRayTubeCurrent=200 Exposure=100 FilterType=W "
        "GeneratorPower=60 FocalSpots=1.2 ConvolutionKernel=B30 PatientPosition=HFS StudyID=1 SeriesNumber=2 "
        "AcquisitionNumber=1 PositionReferenceIndicator=SN SamplesPerPixel=1 PhotometricInterpretation=MONOCHROME2 "
        "BitsAllocated=16 BitsStored=12 HighBit=11 PixelRepresentation=0 WindowCenter=40 WindowWidth=400 "
        "RescaleIntercept=-1024 RescaleSlope=1 RescaleType=HU"
    ).split():
        name, value = keyword.split("=")
        whole = name in ("SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
        setattr(data, name, int(value) if whole else value.split("\\") if "\\" in value else value)
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = f"{root}.1", f"{root}.2", f"{root}.3"
    data.SOPInstanceUID = f"{root}.2.{number + 1}"
    data.InstanceNumber = number + 1
    data.Rows, data.Columns = shape
    data.PixelSpacing = [0.7, 0.7]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-180, -180, float(number)]
    return data


def read_voxelry(folder: Path) -> Any:
    """Header scan, geometry, pixels."""
    from voxelry.formats.reader import read

    return read(folder).array[0].transpose(2, 1, 0)


def read_simpleitk(folder: Path) -> Any:
    """The series reader with GDCM's sorting."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(PROCESSORS)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    return _View(image)


class _View:
    """SimpleITK's own memory, looked at."""

    def __init__(self, image: Any) -> None:
        import SimpleITK

        self.image = image
        self.array = SimpleITK.GetArrayViewFromImage(image)


def read_pydicom(folder: Path) -> Any:
    """`pixel_array` of each file, into one array; neither sorted by position nor checked."""
    import pydicom

    files = sorted(folder.iterdir())
    result = None
    for index, file in enumerate(files):
        data = pydicom.dcmread(file)
        pixels = data.pixel_array
        if result is None:
            result = np.empty((len(files), *pixels.shape), np.int16)
        np.add(pixels.view(np.int16), np.int16(data.RescaleIntercept), out=result[index])
    return result


def read_dcm2niix(folder: Path) -> Any:
    """Its own program, which writes a file."""
    import dcm2niix

    with tempfile.TemporaryDirectory() as place:
        command = [dcm2niix.bin, "-z", "n", "-b", "n", "-o", place, "-f", "out", str(folder)]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        import nibabel

        values = np.asarray(nibabel.load(next(Path(place).glob("*.nii"))).dataobj)
    return _Timed(seconds, values.transpose(2, 1, 0)[:, ::-1, :])


class _Timed:
    """A result whose time was taken without what came after."""

    def __init__(self, seconds: float, array: Any) -> None:
        self.seconds, self.array = seconds, array


def work(name: str, folder: Path) -> None:
    """A contestant's process: warm up, then one read for each line of standard input."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
    function: Callable[[Path], Any] = globals()[f"read_{name}"]
    truth = np.load(folder.parent / "truth.npy", mmap_mode="r")
    result = function(folder)
    is_right = all(np.array_equal(a, b) for a, b in zip(getattr(result, "array", result), truth, strict=True))
    del result, truth
    print("@" + json.dumps({"right": is_right}), flush=True)
    for _ in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
        start = time.perf_counter()
        result = function(folder)
        seconds = getattr(result, "seconds", time.perf_counter() - start)
        extra = None if name == "dcm2niix" else _memory("VmHWM") - before
        del result
        print("@" + json.dumps({"seconds": seconds, "extra_mb": extra}), flush=True)


def _memory(field: str) -> float:
    """A line of this process's status in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


class Contestant:
    """One reader in a process of its own, run when told to."""

    def __init__(self, name: str, folder: Path) -> None:
        command = [sys.executable, "-W", "ignore", __file__, "--worker", name, str(folder)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent / "src")}
        self.name = name
        self.seconds: list[float] = []
        self.extra_mb: float | None = None
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.right = bool(self._reply()["right"])

    def run(self) -> None:
        """One timed read."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        reply = self._reply()
        self.seconds.append(reply["seconds"])
        if reply["extra_mb"] is not None:
            self.extra_mb = max(self.extra_mb or 0.0, reply["extra_mb"])

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    def _reply(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        raise SystemExit(f"{self.name} died; run it alone: python benchmarks/read.py --worker {self.name} FOLDER")


def compare(folder: Path, syntax: str, rounds: int, array_mb: float) -> list[dict[str, Any]]:
    """Read one syntax with voxelry and its peers in turn; one row a peer."""
    contestants = [Contestant(name, folder / syntax) for name in ("voxelry", *PEERS[syntax])]
    for _ in range(rounds):
        for contestant in contestants:
            contestant.run()
    ours, *peers = contestants
    rows = []
    for peer in peers:
        ratio = statistics.median(peer.seconds) / statistics.median(ours.seconds)
        bar, memory = BARS.get((syntax, peer.name)), ours.extra_mb / array_mb
        holds = ours.right and memory <= MEMORY_BAR and (bar is None or ratio >= bar)
        rows.append(
            {
                "series": syntax,
                "peer": peer.name,
                "ours_s": round(statistics.median(ours.seconds), 3),
                "peer_s": round(statistics.median(peer.seconds), 3),
                "times_faster": round(ratio, 2),
                "bar": bar,
                "ours_memory": round(memory, 2),
                "peer_memory": None if peer.extra_mb is None else round(peer.extra_mb / array_mb, 2),
                "same_values": ours.right and peer.right,
                "holds": bool(holds),
            }
        )
    for contestant in contestants:
        contestant.close()
    return rows


def main() -> int:
    """Write the series, run the contestants, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small series, one round: a check of the script, not of the claim")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help=f"one of {', '.join(SYNTAXES)}")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], Path(options.worker[1]))
        return 0
    slices, size = (20, 128) if options.quick else (300, 512)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        make_series(Path(place), slices, size)
        for syntax in SYNTAXES:
            if options.only in syntax:
                rows += compare(Path(place), syntax, 1 if options.quick else options.rounds, slices * size * size * 2 / 2**20)
    versions = {name: version(name) for name in LIBRARIES}
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}\n")
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if options.quick or all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
