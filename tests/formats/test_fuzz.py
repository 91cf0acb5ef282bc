"""Damaged files of every format: each gives a typed error or a valid result; never a hang, a crash, or memory without bound."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import highdicom as hd
import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.sr.codedict import codes
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from helpers import mutants
from helpers.structures import drawn, structure_set
from voxelry.errors import VoxelryError
from voxelry.formats.reader import read, read_labels

ALL = 10_000
FEW = 300
WORKERS = 2
SHAPE = (6, 5, 4)
AFFINE = np.array([[-0.9, 0, 0.1, 5], [0, -0.7, 0, 6], [0, 0, 2.5, -7], [0, 0, 0, 1]])


def grids(folder: Path) -> None:
    """Files of one header and one grid, one folder each; the file to read is called main."""
    labels = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.int16)
    nifti = nibabel.Nifti1Image(labels, AFFINE)
    for name, image in {
        "a.nii": nifti,
        "b.nii.gz": nifti,
        "c.nii": nibabel.Nifti2Image(labels, AFFINE),
        "d.img": nibabel.Nifti1Pair(labels, AFFINE),
        "e.img": nibabel.Spm99AnalyzeImage(labels, None),
        "f.mgh": nibabel.MGHImage(labels, AFFINE),
        "g.mgz": nibabel.MGHImage(labels.astype(np.float32), AFFINE),
        "h.nii": nibabel.Nifti1Image(np.zeros((4, 3, 2, 5)), AFFINE),
    }.items():
        image.to_filename(place(folder, "nifti-" + name[0]) / ("main" + name[1:]))
    image = sitk.GetImageFromArray(labels.T)
    for name, packed in (("a.mha", False), ("b.mha", True), ("c.mhd", False), ("d.mhd", True)):
        sitk.WriteImage(image, str(place(folder, "meta-" + name[0]) / ("main" + name[1:])), packed)
    text = place(folder, "meta-e") / "main.mha"
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = False\nElementSpacing = 1 2 3\nDimSize = 6 5 4\nElementType = MET_SHORT\n"
    )
    text.write_text(header + "ElementDataFile = LOCAL\n" + " ".join(map(str, labels.ravel())), encoding="ascii")
    slicer = {
        f"Segment{i}_{key}": value
        for i, name in enumerate("abc")
        for key, value in {
            "ID": name,
            "Name": name,
            "LabelValue": str(i + 1),
            "Layer": "0",
            "Color": "0.1 0.2 0.9",
        }.items()
    }
    space = {"space": "LPS", "space directions": AFFINE[:3, :3], "space origin": AFFINE[:3, 3], "kinds": ["domain"] * 3}
    for name, options, more in (
        ("a.nrrd", "raw", {}),
        ("b.nrrd", "gzip", {}),
        ("c.nrrd", "ascii", {}),
        ("d.nhdr", "gzip", {}),
        ("e.seg.nrrd", "gzip", slicer),
    ):
        path = place(folder, "nrrd-" + name[0]) / ("main" + name[1:])
        nrrd.write(str(path), labels, {"encoding": options} | space | more, detached_header=name.endswith("nhdr"))


def pictures(folder: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 255, (20, 30)).astype(np.uint8)
    for name, array in {
        "a.png": grey,
        "b.png": grey.astype(np.uint16),
        "c.jpg": np.stack([grey] * 3, -1),
        "d.tif": grey.astype(np.uint16),
    }.items():
        Image.fromarray(array).save(place(folder, "picture-" + name[0]) / ("main" + name[1:]))
    Image.fromarray(grey).save(place(folder, "picture-e") / "main.tif", compression="tiff_deflate")
    Image.fromarray(grey).quantize(8).save(place(folder, "picture-f") / "main.png")
    deep = sitk.GetImageFromArray(
        np.stack([grey.astype(np.uint16) * 7, grey.astype(np.uint16), grey.astype(np.uint16)], -1), isVector=True
    )
    for name in ("g.png", "h.tif"):
        sitk.WriteImage(deep, str(place(folder, "picture-" + name[0]) / ("main" + name[1:])))


def dicoms(folder: Path, make_series, make_slice, save_slice) -> None:
    values = np.random.default_rng(2).integers(-100, 1000, (4, 32, 32)).astype(np.int16)
    for name, syntax in {
        "implicit": ImplicitVRLittleEndian,
        "rle": RLELossless,
        "jpegls": JPEGLSLossless,
        "j2k": JPEG2000Lossless,
        "deflated": DeflatedExplicitVRLittleEndian,
    }.items():
        data = make_slice(values[0])
        if syntax.is_compressed and not syntax.is_deflated:
            data.compress(syntax, values[0], generate_instance_uid=False)
        save_slice(data, place(folder, "dicom-" + name) / "main.dcm", syntax)
    slices = make_series(
        values,
        StudyInstanceUID="1.2.3.4",
        PatientBirthDate="",
        PatientSex="",
        StudyDate="",
        StudyTime="",
        StudyID="",
        AccessionNumber="",
        ReferringPhysicianName="",
    )
    where = place(folder, "dicom-series") / "main"
    for index, data in enumerate(slices):
        save_slice(data, where / f"{index}.dcm")
    scan = read(where)
    with zipfile.ZipFile(place(folder, "dicom-zip") / "main.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(where.iterdir()):
            archive.write(file, f"x/{file.name}")
    rois = [("a", (1, 2, 3), [drawn(scan, [(1.5, 1.5), (9.5, 1.5), (9.5, 8.5)], k) for k in (0, 2)])]
    around = place(folder, "rtstruct") / "series"
    for index, data in enumerate(slices):
        save_slice(data, around / f"{index}.dcm")
    structure_set(around.parent / "main.dcm", rois)
    segs(folder, slices)


def segs(folder: Path, slices) -> None:
    made = hd.AlgorithmIdentificationSequence("test", codes.DCM.ArtificialIntelligence, "1")
    described = [
        hd.seg.SegmentDescription(n, name, codes.SCT.Organ, codes.SCT.Liver, "AUTOMATIC", made)
        for n, name in ((1, "a"), (2, "b"))
    ]
    pixels = np.random.default_rng(3).integers(0, 3, (4, 32, 32)).astype(np.uint8)
    for name, kind, array, how in (
        ("binary", "BINARY", pixels, {}),
        ("labelmap", "LABELMAP", pixels, {"transfer_syntax_uid": RLELossless}),
        ("fractional", "FRACTIONAL", np.stack([pixels == 1, pixels == 2], -1).astype(np.float32) * 0.7, {}),
        ("jpegls", "LABELMAP", pixels, {"transfer_syntax_uid": JPEGLSLossless}),
    ):
        hd.seg.Segmentation(slices, array, kind, described, hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1", **how).save_as(
            place(folder, "seg-" + name) / "main.dcm"
        )


def place(folder: Path, name: str) -> Path:
    (folder / name).mkdir(parents=True)
    return folder / name


@pytest.fixture
def corpus(tmp_path, make_series, make_slice, save_slice):
    folder = tmp_path / "corpus"
    grids(folder)
    pictures(folder)
    dicoms(folder, make_series, make_slice, save_slice)
    return folder


def troubles(corpus: Path, first: int, last: int) -> list[str]:
    """What went wrong with the mutants of a range, read in a process of its own; a new one goes on after each that dies."""
    found = []
    scratch = corpus.parent / f"scratch-{first}"
    while first < last:
        command = [sys.executable, str(WORKER), str(corpus), str(scratch), str(first), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
        found += [f"{line['mutant']}: {line['trouble']}" for line in map(json.loads, done.stdout.splitlines())]
        if done.returncode == 0:
            break
        now = scratch.with_suffix(".now")
        if not now.exists():
            return [f"the worker did not start: {done.stderr[-1500:]}"]
        number = int(now.read_text(encoding="ascii"))
        found.append(f"{number}: the process ended with {done.returncode}: {done.stderr[-1500:]}")
        first = number + 1
    return found


WORKER = Path(mutants.__file__)


def read_mutants(corpus: Path, first: int, last: int) -> list[str]:
    step = -(-(last - first) // WORKERS)
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = pool.map(lambda start: troubles(corpus, start, min(start + step, last)), range(first, last, step))
        return [line for part in parts for line in part]


def test_some_damaged_files(corpus):
    assert read_mutants(corpus, 0, FEW) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_damaged_files(corpus):
    assert read_mutants(corpus, FEW, ALL) == []


def claims(tmp_path):
    """Files of about a kilobyte that claim 2^31 voxels or more."""
    head = nibabel.Nifti1Header()
    head.set_data_shape((2048, 1024, 1024))
    head.set_data_dtype(np.int16)
    head["magic"], head["vox_offset"], head["sform_code"] = b"n+1", 352, 1
    head.set_sform(np.eye(4), 1)
    nifti = head.binaryblock + bytes(700)
    mgh = struct.pack(">7ih", 1, 2048, 1024, 1024, 1, 3, 0, 0) + bytes(1000)
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2048 1024 1024\nspacings: 1 1 1\nendian: little\nencoding: "
    meta = b"ObjectType = Image\nNDims = 3\nElementSpacing = 1 1 1\nDimSize = 2048 1024 1024\nElementType = MET_SHORT\n"
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", 65536, 32768, 8, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(bytes(1000))),
            (b"IEND", b""),
        )
    )
    tif = io.BytesIO()
    Image.new("L", (4, 4)).save(tif, "TIFF")
    small = tif.getvalue()
    big = small
    for tag in (256, 257):
        big = big.replace(struct.pack("<HHII", tag, 4, 1, 4), struct.pack("<HHII", tag, 4, 1, 65536))
    assert big != small
    found = {
        "a.nii": nifti,
        "b.nii.gz": gzip.compress(nifti),
        "c.mgh": mgh,
        "d.mgz": gzip.compress(mgh),
        "e.nrrd": header + b"raw\n\n" + bytes(800),
        "f.nrrd": header + b"gzip\n\n" + gzip.compress(bytes(800_000)),
        "g.nrrd": header + b"ascii\n\n" + b"1 " * 400,
        "h.mha": meta + b"ElementDataFile = LOCAL\n" + bytes(800),
        "i.mha": meta + b"CompressedData = True\nElementDataFile = LOCAL\n" + zlib.compress(bytes(800_000)),
        "j.mha": meta + b"BinaryData = False\nElementDataFile = LOCAL\n" + b"1 " * 400,
        "k.png": png,
        "l.tif": big,
    }
    for name, content in found.items():
        tmp_path.joinpath(name).write_bytes(content)
    return [tmp_path / name for name in found]


def test_two_to_the_thirty_first_voxels_in_a_kilobyte(tmp_path, make_slice, save_slice):
    """Refused when the header is read, before anything is allocated; or, where its coding could hold them, when it does not."""
    import tracemalloc

    files = claims(tmp_path)
    data = make_slice(np.zeros((4, 4), np.int16), Rows=65535, Columns=32769)
    files.append(save_slice(data, tmp_path / "m.dcm"))
    for file in files:
        assert file.stat().st_size < 2500
        for verb in (lambda file=file: read(file).array, lambda file=file: read_labels(file)):
            tracemalloc.start()
            with pytest.raises(VoxelryError, match=file.name):
                verb()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 20e6, file.name


def test_what_unpacks_beyond_the_claim_is_not_read(tmp_path):
    """A stream that goes on for a gigabyte behind a header that claims 24 voxels."""
    import tracemalloc

    bomb = 64 << 20
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nspacings: 1 1 1\nendian: little\nencoding: gzip\n\n"
    meta = b"ObjectType = Image\nNDims = 3\nElementSpacing = 1 1 1\nDimSize = 2 3 4\n"
    meta += b"ElementType = MET_SHORT\nCompressedData = True\n"
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_bytes()
    files = {
        "a.nrrd": header + gzip.compress(bytes(bomb)),
        "b.mha": meta + b"ElementDataFile = LOCAL\n" + zlib.compress(bytes(bomb)),
        "c.nii.gz": gzip.compress(image + bytes(bomb)),
    }
    for name, content in files.items():
        tmp_path.joinpath(name).write_bytes(content)
        tracemalloc.start()
        assert read(tmp_path / name).array.shape == (1, 2, 3, 4)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < bomb / 2, name
