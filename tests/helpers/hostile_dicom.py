"""Hostile DICOM files."""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from copy import deepcopy

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

warnings.simplefilter("ignore")
Files = dict[str, bytes]


def ct(index=0, **changes):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{index + 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = dict(  # noqa: C408 - keywords of DICOM
        SOPClassUID=meta.MediaStorageSOPClassUID,
        SOPInstanceUID=f"1.2.3.{index + 1}",
        SeriesInstanceUID="1.2.4",
        StudyInstanceUID="1.2.5",
        FrameOfReferenceUID="1.2.6",
        Modality="CT",
        PatientID="x",
        PatientName="x",
        PatientBirthDate="",
        PatientSex="",
        StudyDate="",
        StudyTime="",
        StudyID="",
        AccessionNumber="",
        ReferringPhysicianName="",
        Rows=8,
        Columns=8,
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=1,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        PixelSpacing=[1, 1],
        SliceThickness=2,
        ImagePositionPatient=[0, 0, 2 * index],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        InstanceNumber=index + 1,
        RescaleSlope=1,
        RescaleIntercept=0,
        PixelData=np.arange(64, dtype=np.int16).tobytes(),
    )
    for key, value in {**values, **changes}.items():
        if value is None:
            continue
        setattr(data, key, value)
    data["PixelData"].VR = "OW"
    return data


def saved(data, syntax=None):
    stream = io.BytesIO()
    if syntax:
        data.file_meta.TransferSyntaxUID = syntax
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def raw(data: bytes, keyword: str, value: bytes) -> bytes:
    """Replace an element's value (explicit VR, short form), keeping what follows."""
    tag = pydicom.tag.Tag(keyword)
    at = data.index(struct.pack("<HH", tag.group, tag.element), 132)
    vr = data[at + 4 : at + 6]
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD"):
        (size,) = struct.unpack_from("<I", data, at + 8)
        return data[: at + 8] + struct.pack("<I", len(value)) + value + data[at + 12 + size :]
    (size,) = struct.unpack_from("<H", data, at + 6)
    value += b" " * (len(value) % 2)
    return data[: at + 6] + struct.pack("<H", len(value)) + value + data[at + 8 + size :]


TEXTS = (
    b"",
    b"x",
    b"%n%s",
    b"-1",
    b"nan",
    b"inf",
    b"1e400",
    b"9" * 60,
    b"1\\2\\3\\4\\5\\6\\7",
    b"\\\\\\",
    b"\x1b[2J",
    b"\xff\xfe",
    b"0",
    b"1e-300",
)


def headers() -> Iterator[tuple[str, Files]]:
    base = saved(ct())
    for keyword in (
        "PixelSpacing",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "RescaleSlope",
        "RescaleIntercept",
        "SliceThickness",
        "InstanceNumber",
        "SOPClassUID",
        "SeriesInstanceUID",
        "Modality",
        "PhotometricInterpretation",
        "TransferSyntaxUID",
    ):
        for number, text in enumerate(TEXTS):
            yield f"dicom-{keyword}-{number}", {"main.dcm": raw(base, keyword, text)}
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"):
        for value in (0, 1, 3, 7, 17, 65535):
            yield f"dicom-{keyword}-{value}", {"main.dcm": raw(base, keyword, struct.pack("<H", value))}
    yield "dicom-Rows-empty", {"main.dcm": raw(base, "Rows", b"")}
    yield "dicom-Rows-two", {"main.dcm": raw(base, "Rows", b"\x08\0\x08\0")}
    for cut in (132, 136, 150, 300, len(base) - 200, len(base) - 1):
        yield f"dicom-cut-{cut}", {"main.dcm": base[:cut]}
    for number, value in enumerate(("2147483647", "-1", "0", "x", "99999999999999", "2")):
        data = raw(saved(ct(NumberOfFrames=1)), "NumberOfFrames", value.encode())
        yield f"dicom-frames-{number}", {"main.dcm": data}
    deep = Dataset()
    deep.ContentLabel = "x"
    for _ in range(900):
        outer = Dataset()
        outer.ContentSequence = [deep]
        deep = outer
    old = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        data = ct()
        data.ContentSequence = [deep]
        yield "dicom-sequences-deep", {"main.dcm": saved(data)}
    finally:
        sys.setrecursionlimit(old)
    opened = b"\x40\0\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 20_000
    at = base.index(b"\xe0\x7f\x10\0OW")
    yield "dicom-sequences-open", {"main.dcm": base[:at] + opened}
    at_early = base.index(b"\x08\0\x60\0CS")
    yield (
        "dicom-sequences-open-early",
        {"main.dcm": base[:at_early] + b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 5_000},
    )
    for length in (0xFFFFFFFF, 0xFFFFFFFE, 2**31, 3, 0):
        yield f"dicom-pixel-length-{length}", {"main.dcm": base[: at + 8] + struct.pack("<I", length) + base[at + 12 :]}
    yield "dicom-huge-element", {"main.dcm": base[:at] + b"\xe0\x7f\x08\0OF\0\0\xf0\xff\xff\xff" + base[at:]}
    yield "dicom-group-length", {"main.dcm": base[:140] + struct.pack("<I", 2**32 - 1) + base[144:]}
    yield "dicom-no-meta", {"main.dcm": base[:132] + base[base.index(b"\x08\0\x16\0UI") :]}
    for charset in ("ISO_IR 9999", "\\ISO 2022 IR 87", "GB18030", "x" * 60, "ISO_IR 192\\ISO_IR 100"):
        data = ct(PatientName="x", SeriesDescription="y")
        data.SpecificCharacterSet = "ISO_IR 100"
        yield f"dicom-charset-{charset[:8]}", {"main.dcm": raw(saved(data), "SpecificCharacterSet", charset.encode())}
    for number, lut in enumerate(((0, 0, 16), (65535, 0, 16), (2, 0, 99), (2, 70000, 8), (2**20, 0, 16))):
        data = ct()
        item = Dataset()
        item.add_new(0x00283002, "US", [min(v, 65535) for v in lut])
        item.add_new(0x00283006, "OW", b"\1\0\2\0")
        item.ModalityLUTType = "HU"
        data.ModalityLUTSequence = [item]
        yield f"dicom-lut-{number}", {"main.dcm": saved(data)}
    data = ct()
    data.add_new(0x00283000, "SQ", [])
    yield "dicom-lut-empty", {"main.dcm": saved(data)}
    for modality in ("MR", "PT", "DX", "MG", "XA", "SEG", "RTDOSE", "SM", "US", "OT"):
        yield f"dicom-modality-{modality}", {"main.dcm": saved(ct(Modality=modality))}


def stacks() -> Iterator[tuple[str, Files]]:
    def folder(slices):
        return {"main/x": b"", **{f"main/{i}.dcm": s for i, s in enumerate(slices)}}

    for number, change in enumerate(
        (
            {"ImagePositionPatient": [0, 0, 1e300]},
            {"ImagePositionPatient": [0, 0, 0]},
            {"PixelSpacing": [1e-300, 1]},
            {"PixelSpacing": [1e30, 1e30]},
            {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
            {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
            {"Rows": 9},
            {"InstanceNumber": None},
            {"RescaleSlope": "1e300"},
            {"RescaleSlope": 0},
            {"BitsStored": 12},
            {"PixelRepresentation": 0},
            {"Modality": "MR"},
        )
    ):
        yield f"stack-{number}", folder([saved(ct(0)), saved(ct(1)), saved(ct(2, **change))])
    yield "stack-far", folder([saved(ct(0)), saved(ct(1)), saved(ct(2)), saved(ct(100_000_000))])
    yield "stack-2000-same", folder([saved(ct(0))] * 2000)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", saved(ct()))
        archive.writestr("bomb", bytes(300 << 20))
    yield "zip-bomb", {"main.zip": stream.getvalue()}
    for number, name in enumerate(
        ("../x.dcm", "/x.dcm", "C:\\x.dcm", "a/../../x.dcm", "\x1b[2J.dcm", "a" * 300 + ".dcm", "con", "a\\..\\..\\b")
    ):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, saved(ct()))
        yield f"zip-name-{number}", {"main.zip": stream.getvalue()}
    whole = stream.getvalue()
    for cut in (4, 30, len(whole) - 30, len(whole) - 1):
        yield f"zip-cut-{cut}", {"main.zip": whole[:cut]}
    at = whole.rindex(b"PK\1\2")
    yield "zip-size-lie", {"main.zip": whole[: at + 24] + struct.pack("<I", 4) + whole[at + 28 :]}
    yield "zip-size-lie-large", {"main.zip": whole[: at + 24] + struct.pack("<I", 2**31) + whole[at + 28 :]}
    yield "zip-method", {"main.zip": whole[: at + 10] + struct.pack("<H", 99) + whole[at + 12 :]}
    quine = b"PK\5\6" + b"\0\0\0\0" + b"\xff\xff\xff\xff" + struct.pack("<II", 0, 0) + b"\0\0"
    yield "zip-empty-counts", {"main.zip": b"PK\3\4" + bytes(26) + quine}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for n in range(30_000):
            archive.writestr(f"{n}", b"")
    yield "zip-30000-empty", {"main.zip": stream.getvalue()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.dcm", saved(ct()) + bytes(150 << 20))
    yield "zip-lzma-bomb", {"main.zip": stream.getvalue()}


def deflate(data, extra=b""):
    whole = saved(data)
    head = 144 + int.from_bytes(whole[140:144], "little")
    meta = deepcopy(data.file_meta)
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(stream, meta)
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    content = whole[head:]
    at = content.rindex(b"\xe0\x7f\x10\0") if b"\xe0\x7f\x10\0" in content else len(content)
    packed = packer.compress(content[:at])
    if extra:
        packed += packer.compress(extra)
    packed += packer.compress(content[at:]) + packer.flush()
    return b"\0" * 128 + b"DICM" + stream.getvalue() + packed


def private(megabytes):
    return b"\x79\0\x10\0LO\4\0x   \x79\0\1\x10OB\0\0" + struct.pack("<I", megabytes << 20) + bytes(megabytes << 20)


def deflated() -> Iterator[tuple[str, Files]]:
    yield "deflated-sound", {"main.dcm": deflate(ct())}
    yield "deflated-element-bomb", {"main.dcm": deflate(ct(), private(900))}
    big = ct(Rows=30000, Columns=30000)
    whole = deflate(big, b"")
    yield "deflated-pixels-missing", {"main.dcm": whole}
    data = ct(Rows=20000, Columns=20000)
    data.PixelData = bytes(20000 * 20000 * 2)
    data["PixelData"].VR = "OW"
    yield "deflated-pixels-large", {"main.dcm": deflate(data)}
    data = ct()
    data.PixelData = bytes(700 << 20)
    data["PixelData"].VR = "OW"
    yield "deflated-pixels-bomb", {"main.dcm": deflate(data)}
    del data
    sound = deflate(ct())
    for cut in (len(sound) // 2, len(sound) - 20, len(sound) - 1, 200):
        yield f"deflated-cut-{cut}", {"main.dcm": sound[:cut]}
    yield "deflated-text", {"main.dcm": sound[: sound.index(b"1.2.840.10008.1.2.1.99") + 40] + b"no deflate stream at all"}
    slices = [ct(i) for i in range(3)]
    one = seg(slices)
    yield "deflated-seg", {"main.dcm": deflate(one)}
    yield "deflated-seg-bomb", {"main.dcm": deflate(one, private(900))}
    yield (
        "deflated-rtstruct-bomb",
        {"main.dcm": deflate(structures(), private(900)), **{f"{i}.dcm": saved(s) for i, s in enumerate(slices)}},
    )


def seg(slices, kind="BINARY", pixels=None, syntax=ExplicitVRLittleEndian):
    made = hd.AlgorithmIdentificationSequence("test", codes.DCM.ArtificialIntelligence, "1")
    described = [
        hd.seg.SegmentDescription(n, name, codes.SCT.Organ, codes.SCT.Liver, "AUTOMATIC", made)
        for n, name in ((1, "a"), (2, "b"))
    ]
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 3, (len(slices), 8, 8)).astype(np.uint8)
        pixels[:, 0, :2] = 1, 2
    return hd.seg.Segmentation(
        slices, pixels, kind, described, hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1", transfer_syntax_uid=syntax
    )


def segs() -> Iterator[tuple[str, Files]]:
    slices = [ct(i) for i in range(3)]
    sound = {
        "binary": seg(slices),
        "labelmap": seg(slices, "LABELMAP"),
        "rle": seg(slices, "LABELMAP", syntax=RLELossless),
        "jls": seg(slices, "LABELMAP", syntax=JPEGLSLossless),
        "fractional": seg(
            slices, "FRACTIONAL", np.stack([np.full((3, 8, 8), 0.3), np.full((3, 8, 8), 0.6)], -1).astype(np.float32)
        ),
    }

    def changed(kind, change, base=None):
        data = deepcopy(base or sound[kind])
        change(data)
        stream = io.BytesIO()
        data.save_as(stream)
        return {"main.dcm": stream.getvalue()}

    def setter(name, value):
        def change(data):
            target = data
            *path, last = name.split(".")
            for step in path:
                key, _, index = step.partition("[")
                target = target[key].value[int(index[:-1] or 0)] if index else target[key].value
            if value is None:
                del target[last]
            else:
                setattr(target, last, value)

        return change

    frame = "PerFrameFunctionalGroupsSequence[0]."
    for kind in sound:
        for number, (name, value) in enumerate(
            (
                ("Rows", 65535),
                ("Columns", 0),
                ("NumberOfFrames", 2**31 - 1),
                ("NumberOfFrames", 1),
                ("NumberOfFrames", 0),
                ("NumberOfFrames", 99),
                ("BitsAllocated", 16),
                ("BitsAllocated", 1),
                ("BitsAllocated", 64),
                ("SegmentSequence", []),
                ("SegmentSequence", None),
                ("PerFrameFunctionalGroupsSequence", []),
                ("PerFrameFunctionalGroupsSequence", None),
                ("SharedFunctionalGroupsSequence", []),
                ("PixelData", b""),
                ("PixelData", None),
                ("MaximumFractionalValue", 0),
                ("SegmentationType", "X"),
                ("SegmentationType", None),
                ("SegmentSequence[0].SegmentNumber", 2),
                ("SegmentSequence[0].SegmentNumber", 65535),
                ("SegmentSequence[0].SegmentLabel", "\x1b[2J" + "x" * 60),
                (frame + "PlanePositionSequence[0].ImagePositionPatient", [0, 0, 1e9]),
                (frame + "PlanePositionSequence[0].ImagePositionPatient", [0, 0, 16000]),
                (frame + "PlanePositionSequence", []),
                ("SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing", [1e-30, 1e-30]),
                ("SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing", [0, 0]),
                ("SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient", [0] * 6),
                ("SegmentsOverlap", "%n"),
                ("FrameOfReferenceUID", ""),
                ("ReferencedSeriesSequence", []),
                ("DimensionIndexSequence", []),
            )
        ):
            if kind in ("rle", "jls") and name == "PixelData":
                continue  # not to be written
            yield f"seg-{kind}-{number}", changed(kind, setter(name, value))

        for number, uid in enumerate(
            (
                "1.2.840.10008.1.2.5",
                "1.2.840.10008.1.2.4.80",
                "1.2.840.10008.1.2.4.90",
                "1.2.840.10008.1.2.1.99",
                "1.2.3",
                "1.2.840.10008.1.2.4.100",
                "1.2.840.10008.1.2",
            )
        ):
            whole = changed(kind, lambda d: None)["main.dcm"]
            yield f"seg-{kind}-syntax-{number}", {"main.dcm": raw(whole, "TransferSyntaxUID", uid.encode())}
        yield f"seg-{kind}-syntax-none", {"main.dcm": raw(changed(kind, lambda d: None)["main.dcm"], "TransferSyntaxUID", b"")}
    large = [ct(i, Rows=1024, Columns=1024, PixelData=bytes(2 << 20)) for i in range(2)]
    pixels = np.zeros((2, 1024, 1024), np.uint8)
    pixels[:, 0, 0] = 1

    def spread(data):
        for index, group in enumerate(data.PerFrameFunctionalGroupsSequence):
            group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2.0 * index * 8190]

    yield "seg-far-apart", changed("", spread, seg(large, pixels=pixels))
    yield "seg-far-apart-rle", changed("", spread, seg(large, "LABELMAP", pixels, RLELossless))


def structures(**changes):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    meta.MediaStorageSOPInstanceUID = "1.2.9"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = meta.MediaStorageSOPClassUID, "1.2.9", "RTSTRUCT"
    data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.10", "1.2.5"
    series = Dataset()
    series.SeriesInstanceUID = "1.2.4"
    study = Dataset()
    study.RTReferencedSeriesSequence = [series]
    space = Dataset()
    space.FrameOfReferenceUID = "1.2.6"
    space.RTReferencedStudySequence = [study]
    data.ReferencedFrameOfReferenceSequence = [space]
    roi = Dataset()
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = 1, "a", "1.2.6"
    data.StructureSetROISequence = [roi]
    contour = Dataset()
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.ContourData = changes.pop("points", [1, 1, 0, 6, 1, 0, 6, 6, 0])
    contour.NumberOfContourPoints = 3
    item = Dataset()
    item.ReferencedROINumber = 1
    item.ContourSequence = [contour] * changes.pop("times", 1)
    item.ROIDisplayColor = changes.pop("color", [1, 2, 3])
    data.ROIContourSequence = [item]
    for key, value in changes.items():
        target = {"ROINumber": roi, "ROIName": roi, "ContourGeometricType": contour, "ReferencedROINumber": item}.get(key, data)
        setattr(target, key, value)
    return data


def rtstructs() -> Iterator[tuple[str, Files]]:
    around = {f"{i}.dcm": saved(ct(i)) for i in range(3)}
    for number, change in enumerate(
        (
            {},
            {"points": [1e300, 1, 0, 6, 1, 0, 6, 6, 0]},
            {"points": [1, 1, 0]},
            {"points": [1, 1, 0, 6]},
            {"points": []},
            {"points": [-1e6, -1e6, 0, 1e6, -1e6, 0, 1e6, 1e6, 0]},
            {"points": [1, 1, 1, 6, 1, 1, 6, 6, 1]},
            {"points": [1, 1, 50, 6, 1, 50, 6, 6, 50]},
            {"times": 5000},
            {"color": [999, -1, 3]},
            {"color": [1]},
            {"ROINumber": -5},
            {"ROINumber": 2**31 - 1},
            {"ROIName": "\x1b[2J%n" + "x" * 50},
            {"ROIName": ""},
            {"ContourGeometricType": "POINT"},
            {"ContourGeometricType": "%s"},
            {"ReferencedROINumber": 99},
            {"StructureSetROISequence": []},
            {"ROIContourSequence": []},
            {"ReferencedFrameOfReferenceSequence": []},
        )
    ):
        yield f"rtstruct-{number}", {"main.dcm": saved(structures(**change)), **around}
    whole = saved(structures())
    at = whole.index(b"\x06\x30\x50\0DS")
    for number, text in enumerate(TEXTS):
        padded = text + b" " * (len(text) % 2)
        yield (
            f"rtstruct-text-{number}",
            {"main.dcm": whole[:at] + whole[at : at + 6] + struct.pack("<H", len(padded)) + padded, **around},
        )
    million = [float(v) for i in range(3000) for v in (3 + 2 * np.cos(i), 3 + 2 * np.sin(i), 0)]
    yield "rtstruct-many-points", {"main.dcm": saved(structures(points=[round(v, 3) for v in million])), **around}


def codecs() -> Iterator[tuple[str, Files]]:
    from pydicom.encaps import encapsulate

    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    import imagecodecs

    streams = {
        "1.2.840.10008.1.2.4.80": bytes(imagecodecs.jpegls_encode(pixels)),
        "1.2.840.10008.1.2.4.90": bytes(imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k")),
        "1.2.840.10008.1.2.4.70": bytes(imagecodecs.ljpeg_encode(pixels)),
        "1.2.840.10008.1.2.4.50": bytes(imagecodecs.jpeg8_encode(pixels.astype(np.uint8))),
        "1.2.840.10008.1.2.5": pydicom.pixels.encoders.RLELosslessEncoder.encode(
            pixels,
            rows=8,
            columns=8,
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=16,
            pixel_representation=0,
            number_of_frames=1,
            photometric_interpretation="MONOCHROME2",
        ),
    }
    for syntax, stream in streams.items():
        bits = 8 if syntax.endswith(".50") else 16

        def file(content, bits=bits, syntax=syntax):
            data = ct(BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=0)
            data.PixelData = encapsulate([content])
            data["PixelData"].VR = "OB"
            data["PixelData"].is_undefined_length = True
            return saved(data, syntax)

        yield f"codec-{syntax}-sound", {"main.dcm": file(stream)}
        for cut in (1, 4, 16, len(stream) // 2, len(stream) - 3):
            yield f"codec-{syntax}-cut-{cut}", {"main.dcm": file(stream[:cut])}
        yield f"codec-{syntax}-empty", {"main.dcm": file(b"\0\0")}
        rng = np.random.default_rng(1)
        for n in range(12):
            broken = bytearray(stream)
            for _ in range(1 + n % 4):
                broken[rng.integers(0, min(len(broken), 12 + 10 * n))] = rng.integers(0, 256)
            yield f"codec-{syntax}-byte-{n}", {"main.dcm": file(bytes(broken))}
        two = ct(
            Rows=8, Columns=8, BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=0, NumberOfFrames=3
        )
        two.PixelData = encapsulate([stream, stream])
        two["PixelData"].VR = "OB"
        two["PixelData"].is_undefined_length = True
        yield f"codec-{syntax}-frames", {"main.dcm": saved(two, syntax)}
