"""Hostile files of one header and one grid, and pictures: name -> (files, the one to read)."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterator

import nibabel as nib
import numpy as np
from PIL import Image

HUGE = (
    "2147483647",
    "-1",
    "0",
    "99999999999999999999",
    "1e308",
    "nan",
    "%n%n%s",
    "0x10",
    "1_000",
    "٣",
    "\x1b[2J",
    " ",
    "4 4 4 4 4 4",
)
Files = dict[str, bytes]


def nifti() -> Iterator[tuple[str, Files]]:
    base = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)).to_bytes()

    def changed(field, value, dtype=None):
        header = nib.Nifti1Header.from_fileobj(io.BytesIO(base), check=False)
        header[field] = value
        return header.binaryblock + base[348:]

    nan, inf = float("nan"), float("inf")
    for field, values in {
        "dim": (
            [8] * 8,
            [-1] * 8,
            [3, 32767, 32767, 32767, 1, 1, 1, 1],
            [7, 2, 3, 4, 1, 1, 1, 1],
            [7, 32767, 32767, 32767, 32767, 32767, 1, 1],
            [0] * 8,
            [1, 24, 1, 1, 1, 1, 1, 1],
            [5, 2, 1, 1, 1, 12, 1, 1],
            [3, 2, 3, 4, -5, 0, 9, 9],
            [4, 1, 1, 1, 24, 1, 1, 1],
        ),
        "pixdim": ([nan] * 8, [0] * 8, [inf] * 8, [-1] * 8, [1e-38] * 8, [3e38] * 8),
        "vox_offset": (nan, inf, -1, 0, 1e30, 351, 352.5, 2**31),
        "datatype": (0, 1, 32, 128, 255, 1536, 1792, 2048, 2304, -1, 9999, 1024, 1280),
        "scl_slope": (nan, inf, 0, 3e38, -1e-45),
        "scl_inter": (nan, inf, 3e38),
        "sform_code": (-1, 32767, 4),
        "srow_x": ([nan] * 4, [0] * 4, [inf] * 4, [3e38] * 4),
        "quatern_b": (nan, 5, 3e38),
        "xyzt_units": (255, 1, 3),
        "intent_code": (-1, 1002, 1007, 32767),
        "bitpix": (0, -1, 99),
    }.items():
        for number, value in enumerate(values):
            yield f"nifti-{field}-{number}", {"main.nii": changed(field, value)}
    for cut in (0, 1, 4, 100, 347, 348, 351, 352, 353, 399):
        yield f"nifti-cut-{cut}", {"main.nii": base[:cut]}
    packed = gzip.compress(base)
    for cut in (2, 10, 20, len(packed) - 8, len(packed) - 1):
        yield f"nifti-gz-cut-{cut}", {"main.nii.gz": packed[:cut]}
    yield "nifti-gz-crc", {"main.nii.gz": packed[:-8] + b"\0" * 8}
    yield "nifti-gz-twice", {"main.nii.gz": gzip.compress(packed)}
    yield "nifti-gz-bomb", {"main.nii.gz": gzip.compress(base + bytes(300 << 20), 1)}
    yield "nifti-gz-bomb-before", {"main.nii.gz": gzip.compress(bytes(300 << 20), 1)}
    big = nib.Nifti1Header()
    big.set_data_shape((1024, 1024, 1024))
    big.set_data_dtype(np.uint8)
    big["magic"], big["vox_offset"] = b"n+1", 352
    yield "nifti-gz-claims-gigabyte", {"main.nii.gz": gzip.compress(big.binaryblock + bytes(200 << 20), 1)}
    yield "nifti-gz-many-members", {"main.nii.gz": gzip.compress(b"") * 50_000 + packed}
    yield "nifti-pair-without-voxels", {"main.hdr": base[:344] + b"ni1\0", "x": b""}
    yield "nifti-pair-short", {"main.hdr": base[:344] + b"ni1\0", "main.img": b"\0"}
    extension = struct.pack("<ii", 2**31 - 16, 6) + b"x" * 8
    yield "nifti-extension-size", {"main.nii": base[:348] + b"\1\0\0\0" + extension + base[352:]}
    yield "nifti-extension-negative", {"main.nii": base[:348] + b"\1\0\0\0" + struct.pack("<ii", -16, 6) + base[352:]}
    yield "nifti-extension-json-deep", {"main.nii": _with_extension(base, b"[" * 30_000)}
    yield "nifti-extension-xml-laughs", {"main.nii": _with_extension(base, _laughs())}
    yield "nifti-other-order", {"main.nii": base[:40] + bytes(reversed(base[40:56])) + base[56:]}


def _with_extension(base: bytes, content: bytes) -> bytes:
    size = -(-(8 + len(content)) // 16) * 16
    content = content.ljust(size - 8, b"\0")
    head = bytearray(base[:348])
    head[108:112] = struct.pack("<f", 352 + size)
    return bytes(head) + b"\1\0\0\0" + struct.pack("<ii", size, 0) + content + base[352:]


def _laughs() -> bytes:
    lines = ['<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">']
    lines += [f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(10)]
    return ("".join(lines) + "]><CaretExtension><Date>&k;</Date></CaretExtension>").encode()


def mgh() -> Iterator[tuple[str, Files]]:
    def made(sizes=(2, 3, 4, 1), kind=0, good=1, numbers=(1,) * 3 + (1, 0, 0, 0, 1, 0, 0, 0, 1) + (0,) * 3, data=bytes(24)):
        return (struct.pack(">7ih", 1, *sizes, kind, 0, good) + struct.pack(">15f", *numbers)).ljust(284, b"\0") + data

    for number, sizes in enumerate(((2**31 - 1,) * 4, (-1, -1, 24, 1), (0, 1, 1, 1), (24, 1, 1, -1), (1, 1, 1, 2**31 - 1))):
        yield f"mgh-sizes-{number}", {"main.mgh": made(sizes)}
    for kind in (-1, 2, 5, 99):
        yield f"mgh-type-{kind}", {"main.mgh": made(kind=kind)}
    for number, value in enumerate((float("nan"), float("inf"), 0.0, -1.0, 3e38)):
        yield f"mgh-numbers-{number}", {"main.mgh": made(numbers=(value,) * 15)}
    yield "mgh-cut", {"main.mgh": made()[:200]}
    yield "mgz-cut", {"main.mgz": gzip.compress(made())[:60]}
    yield "mgh-good", {"main.mgh": made(good=-7)}


def nrrd() -> Iterator[tuple[str, Files]]:
    fields = {
        "type": "short",
        "dimension": "3",
        "sizes": "2 3 4",
        "space": "LPS",
        "space directions": "(1,0,0) (0,1,0) (0,0,1)",
        "space origin": "(0,0,0)",
        "endian": "little",
        "encoding": "raw",
        "kinds": "domain domain domain",
    }

    def made(data=bytes(48), more="", **changes):
        rows = fields | {key.replace("_", " "): value for key, value in changes.items()}
        return (
            "NRRD0005\n" + "".join(f"{key}: {value}\n" for key, value in rows.items() if value is not None) + more + "\n"
        ).encode() + data

    for key in (
        "dimension",
        "sizes",
        "space directions",
        "space origin",
        "byte skip",
        "line skip",
        "spacings",
        "axis mins",
        "thicknesses",
    ):
        for number, word in enumerate(HUGE):
            yield f"nrrd-{key.replace(' ', '_')}-{number}", {"main.nrrd": made(**{key.replace(" ", "_"): word})}
    for key in ("type", "endian", "encoding", "space", "kinds", "space units", "content", "measurement frame"):
        for number, word in enumerate(("", "%n%s", "x" * 100_000, "\x1b[2J", "bzip2", "block", "4D", "3D-right-handed")):
            yield f"nrrd-{key.replace(' ', '_')}-{number}", {"main.nrrd": made(**{key.replace(" ", "_"): word})}
    for number, name in enumerate(
        (
            "/etc/passwd",
            "../main.nrrd",
            "main.nrrd",
            "%n%s%n.raw 0 9 1",
            "%s 1 2 1",
            "%d.raw 0 1000000000 1",
            "%d 1 2 0",
            "%d 5 1 -1",
            "LIST",
            "LIST 2",
            "LIST -1",
            "a\0b",
            "%99999999d.raw 0 3 1",
            "%*d 0 3 1",
            "x" * 5000,
            "~/x",
            "//host/x",
            ".",
        ),
    ):
        yield f"nrrd-data-file-{number}", {"main.nhdr": made(b"", data_file=name), "0": b"x"}
    yield "nrrd-list-outside", {"main.nhdr": made(b"/etc/passwd\n" * 4, data_file="LIST")[:-1]}
    yield "nrrd-gzip-bomb", {"main.nrrd": made(gzip.compress(bytes(300 << 20), 1), encoding="gzip")}
    yield (
        "nrrd-gzip-skip-bomb",
        {"main.nrrd": made(gzip.compress(bytes(300 << 20), 1), encoding="gzip", byte_skip=str(300 << 20))},
    )
    yield "nrrd-gzip-text", {"main.nrrd": made(b"1 2 3", encoding="gzip")}
    yield "nrrd-text-letters", {"main.nrrd": made(b"a b c " * 8, encoding="text")}
    yield "nrrd-text-huge", {"main.nrrd": made(b"9" * 400 + b" 1" * 23, encoding="text")}
    yield "nrrd-text-long-word", {"main.nrrd": made(b"1 " * 23 + b"9" * 5_000_000, encoding="text", type="double")}
    yield "nrrd-no-end", {"main.nrrd": made()[:60]}
    yield "nrrd-many-fields", {"main.nrrd": made(more="".join(f"f{n}: x\n" for n in range(200_000)))}
    yield "nrrd-many-pairs", {"main.nrrd": made(more="".join(f"Segment{n}_Name:=x\n" for n in range(50_000)))}
    yield "nrrd-field-twice", {"main.nrrd": made(more="sizes: 9 9 9\n")}
    yield "nrrd-skip-and-skip", {"main.nrrd": made(line_skip=str(10**18))}
    seg = "".join(
        f"Segment0_{key}:={value}\n"
        for key, value in {
            "ID": "a",
            "Name": "%n\x1b[31m" + "x" * 300,
            "LabelValue": "1",
            "Layer": "0",
            "Color": "nan nan nan",
            "Tags": "TerminologyEntry:" + "~" * 10_000 + "^" * 10_000 + "|",
        }.items()
    )
    yield "seg-nrrd-strange", {"main.seg.nrrd": made(more=seg, type="uchar", data=b"\1" * 24)}
    for number, word in enumerate(HUGE):
        yield (
            f"seg-nrrd-value-{number}",
            {"main.seg.nrrd": made(more=f"Segment0_ID:=a\nSegment0_LabelValue:={word}\nSegment0_Layer:={word}\n")},
        )


def metaimage() -> Iterator[tuple[str, Files]]:
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "DimSize": "2 3 4",
        "ElementSpacing": "1 1 1",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }

    def made(data=bytes(48), **changes):
        rows = {**{k: v for k, v in fields.items() if k != "ElementDataFile"}, **changes}
        rows["ElementDataFile"] = rows.pop("ElementDataFile", "LOCAL")
        return "".join(f"{key} = {value}\n" for key, value in rows.items()).encode() + data

    for key in (
        "NDims",
        "DimSize",
        "ElementSpacing",
        "TransformMatrix",
        "Offset",
        "HeaderSize",
        "ElementNumberOfChannels",
        "CompressedDataSize",
    ):
        for number, word in enumerate(HUGE):
            yield f"meta-{key}-{number}", {"main.mha": made(**{key: word})}
    for number, name in enumerate(
        (
            "%n%n%n%n",
            "%s%s%s%s%s",
            "%s.raw 1 4 1",
            "slice%03d.raw 1 4 1",
            "slice%d.raw 1 1000000000 1",
            "slice%d.raw 4 1 0",
            "%99999999d.raw 1 4 1",
            "%*d 1 4 1",
            "LIST",
            "LIST 2D",
            "LIST -1",
            "LIST 99999999999D",
            "../main.mhd",
            "/etc/passwd",
            "main.mhd",
            "a\0b",
            ".",
            "local",
            "%d%d%d 1 4 1",
            "%c 1 4 1",
            "%p 1 4 1",
            "%lln 1 4 1",
            "%1$n 1 4 1",
            "%.999999999f 1 4 1",
        ),
    ):
        yield (
            f"meta-data-{number}",
            {"main.mhd": made(b"", ElementDataFile=name), "slice001.raw": bytes(12), "slice1.raw": bytes(12)},
        )
    yield "meta-list-outside", {"main.mhd": made(b"/etc/passwd\n../x\n\n%n\n", ElementDataFile="LIST")}
    yield "meta-list-itself", {"main.mhd": made(b"main.mhd\n" * 4, ElementDataFile="LIST")}
    yield "meta-zlib-bomb", {"main.mha": made(zlib.compress(bytes(300 << 20), 1), CompressedData="True")}
    yield "meta-zlib-text", {"main.mha": made(b"text", CompressedData="True")}
    yield "meta-text", {"main.mha": made(b"x y", BinaryData="False")}
    yield "meta-long-line", {"main.mha": made(Comment="x" * 2_000_000)}
    yield "meta-many-lines", {"main.mha": b"ObjectType = Image\n" + b"a = b\n" * 150_000}
    yield "meta-no-end", {"main.mha": b"ObjectType = Image\nNDims = 3"}
    for number, kind in enumerate(("MET_NONE", "MET_STRING", "%n", "", "MET_FLOAT_ARRAY", "MET_OTHER")):
        yield f"meta-type-{number}", {"main.mha": made(ElementType=kind)}


def pictures() -> Iterator[tuple[str, Files]]:
    def png(*chunks, start=b"\x89PNG\r\n\x1a\n"):
        return start + b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)

    def ihdr(w, h, depth=8, colour=0, *rest):
        return b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, *(rest or (0, 0, 0)))

    rows = zlib.compress(b"".join(b"\0" + bytes(4) for _ in range(4)))
    end = (b"IEND", b"")
    for number, size in enumerate(
        ((0, 0), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (65535, 65535), (4, 5), (5, 4), (30000, 30000))
    ):
        yield f"png-size-{number}", {"main.png": png(ihdr(*size), (b"IDAT", rows), end)}
    for number, more in enumerate(((3, 0), (8, 9), (16, 3), (8, 3), (1, 2), (8, 0, 1, 0, 0), (8, 0, 0, 9, 0), (8, 0, 0, 0, 1))):
        yield f"png-kind-{number}", {"main.png": png(ihdr(4, 4, *more), (b"IDAT", rows), end)}
    yield (
        "png-text-bomb",
        {"main.png": png(ihdr(4, 4), (b"zTXt", b"k\0\0" + zlib.compress(bytes(200 << 20), 1)), (b"IDAT", rows), end)},
    )
    yield (
        "png-icc-bomb",
        {"main.png": png(ihdr(4, 4), (b"iCCP", b"k\0\0" + zlib.compress(bytes(200 << 20), 1)), (b"IDAT", rows), end)},
    )
    yield "png-data-bomb", {"main.png": png(ihdr(4, 4), (b"IDAT", zlib.compress(bytes(200 << 20), 1)), end)}
    yield "png-wide-bomb", {"main.png": png(ihdr(20000, 20000), (b"IDAT", zlib.compress(bytes(20001 * 2000), 1)), end)}
    yield "png-no-data", {"main.png": png(ihdr(4, 4), end)}
    yield "png-chunks", {"main.png": png(ihdr(4, 4), *[(b"tEXt", b"a\0b")] * 100_000, (b"IDAT", rows), end)}
    yield "png-crc", {"main.png": png(ihdr(4, 4), (b"IDAT", rows), end)[:-20] + bytes(20)}
    yield "png-apng", {"main.png": png(ihdr(4, 4), (b"acTL", struct.pack(">II", 2**31 - 1, 0)), (b"IDAT", rows), end)}
    stream = io.BytesIO()
    Image.new("L", (16, 16), 7).save(stream, "JPEG")
    jpeg = stream.getvalue()
    at = jpeg.index(b"\xff\xc0")
    for number, size in enumerate(((65535, 65535), (0, 0), (1, 65535), (65500, 16))):
        yield f"jpeg-size-{number}", {"main.jpg": jpeg[: at + 5] + struct.pack(">HH", *size) + jpeg[at + 9 :]}
    for cut in (3, 20, at + 4, len(jpeg) - 10, len(jpeg) - 2):
        yield f"jpeg-cut-{cut}", {"main.jpg": jpeg[:cut]}
    yield (
        "jpeg-exif-loop",
        {"main.jpg": jpeg[:2] + b"\xff\xe1\0\x20Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\0\0\0\0" + jpeg[2:]},
    )
    stream = io.BytesIO()
    Image.new("I;16", (8, 8), 7).save(stream, "TIFF")
    tiff = stream.getvalue()

    def tag(number, kind, count, value):
        at = next(
            i
            for i in range(8, len(tiff) - 12, 2)
            if struct.unpack_from("<H", tiff, i)[0] == number and struct.unpack_from("<H", tiff, i + 2)[0] in (3, 4)
        )
        return tiff[:at] + struct.pack("<HHII", number, kind, count, value) + tiff[at + 12 :]

    for number, (name, kind, count, value) in enumerate(
        (
            (256, 4, 1, 2**32 - 1),
            (256, 4, 1, 0),
            (257, 4, 1, 2**31),
            (257, 4, 2**31, 8),
            (258, 3, 1, 0),
            (258, 3, 1, 64),
            (258, 3, 1, 7),
            (259, 3, 1, 5),
            (259, 3, 1, 7),
            (259, 3, 1, 34712),
            (259, 3, 1, 32946),
            (259, 3, 1, 50000),
            (262, 3, 1, 3),
            (262, 3, 1, 6),
            (262, 3, 1, 99),
            (273, 4, 1, 2**32 - 1),
            (273, 4, 2**28, 8),
            (277, 3, 1, 0),
            (277, 3, 1, 65535),
            (278, 4, 1, 0),
            (278, 4, 1, 1),
            (279, 4, 1, 2**32 - 1),
            (279, 4, 1, 0),
            (256, 9, 1, 2**32 - 1),
            (256, 12, 1, 8),
            (256, 99, 1, 8),
        ),
    ):
        with_tag = None
        try:
            with_tag = tag(name, kind, count, value)
        except StopIteration:
            continue
        yield f"tiff-tag-{number}", {"main.tif": with_tag}
    first = struct.unpack_from("<I", tiff, 4)[0]
    entries = struct.unpack_from("<H", tiff, first)[0]
    yield (
        "tiff-loop",
        {"main.tif": tiff[: first + 2 + 12 * entries] + struct.pack("<I", first) + tiff[first + 6 + 12 * entries :]},
    )
    for offset in (0, 2, 2**32 - 1, len(tiff) - 1):
        yield f"tiff-offset-{offset}", {"main.tif": tiff[:4] + struct.pack("<I", offset) + tiff[8:]}
    yield "tiff-entries", {"main.tif": tiff[:first] + b"\xff\xff" + tiff[first + 2 :]}
    yield "tiff-big", {"main.tif": b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63)}
    yield "tiff-cut", {"main.tif": tiff[: len(tiff) // 2]}


def strangers() -> Iterator[tuple[str, Files]]:
    for number, content in enumerate(
        (
            b"",
            b"\0",
            b"\x1f\x8b",
            b"PK\3\4",
            b"PK\5\6" + bytes(18),
            b"GIF89a",
            b"BM",
            b"%PDF-1.4",
            b"\x93NUMPY\1\0v\0{'a': " + b"(" * 200,
            b"\x80\4\x95csystem\n",
            b"#!/bin/sh\n",
            b"\xff" * 1000,
            b"NRRD",
            b"NRRD0099\n\n",
            b"DICM",
            bytes(128) + b"DICM",
            b"n+1\0" * 200,
        )
    ):
        for ending in ("nii", "dcm"):
            yield f"stranger-{number}-{ending}", {f"main.{ending}": content}
