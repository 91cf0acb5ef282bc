"""TIFF files byte by byte, as TIFF 6.0 describes them: any depth, sign, photometric interpretation, byte and bit order."""

from __future__ import annotations

import struct
from pathlib import Path

from numpy.typing import NDArray

SHORT, LONG = 3, 4
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def packed(values: NDArray, bits: int, order: str = "<") -> bytes:
    """Rows of ``(rows, n)`` numbers, each row filled up to whole bytes; whole bytes in `order`, other depths big end first."""
    if values.dtype.kind == "f" or bits in (8, 16, 32, 64):
        return values.astype(values.dtype.newbyteorder(order)).tobytes()
    lines = []
    for row in values.tolist():
        text = "".join(f"{int(value):0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        lines.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(lines)


def raw_tiff(
    file: Path,
    values: NDArray,
    bits: int,
    *,
    order: str = "<",
    photometric: int | None = 1,
    sample_format: int | None = None,
    fill_order: int = 1,
    planar: int = 1,
    rows_per_strip: int = 0,
    more: dict[int, tuple[int, tuple[int, ...]]] | None = None,
) -> Path:
    """Write ``(rows, columns, S)``, or ``(rows, columns)``, uncompressed; `more` are further tags, each a type and numbers."""
    values = values.reshape(*values.shape[:2], -1)
    rows, columns, samples = values.shape
    height = rows_per_strip or rows
    planes = [values[..., [s]] for s in range(samples)] if planar == 2 else [values]
    strips = [
        packed(p[y : y + height].reshape(-1, columns * p.shape[2]), bits, order) for p in planes for y in range(0, rows, height)
    ]
    if fill_order == 2:
        strips = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in strip) for strip in strips]
    tags = {
        256: (LONG, (columns,)), 257: (LONG, (rows,)), 258: (SHORT, (bits,) * samples), 259: (SHORT, (1,)),
        266: (SHORT, (fill_order,)), 273: (LONG, (0,) * len(strips)), 277: (SHORT, (samples,)), 278: (LONG, (height,)),
        279: (LONG, tuple(map(len, strips))), 284: (SHORT, (planar,)),
    }  # fmt: skip
    tags |= {262: (SHORT, (photometric,))} if photometric is not None else {}
    tags |= {339: (SHORT, (sample_format,) * samples)} if sample_format else {}
    tags |= more or {}
    first = 8 + 2 + 12 * len(tags) + 4
    sizes = {tag: len(numbers) * (2 if kind == SHORT else 4) for tag, (kind, numbers) in tags.items()}
    data = first + sum(size + size % 2 for size in sizes.values() if size > 4)
    tags[273] = (LONG, tuple(data + sum(map(len, strips[:k])) for k in range(len(strips))))
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(tags))
    outside = b""
    for tag, (kind, numbers) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(numbers)}{'H' if kind == SHORT else 'I'}", *numbers)
        head += struct.pack(order + "HHI", tag, kind, len(numbers))
        if len(content) <= 4:
            head += content.ljust(4, b"\0")
        else:
            head += struct.pack(order + "I", first + len(outside))
            outside += content + b"\0" * (len(content) % 2)
    file.write_bytes(head + b"\0\0\0\0" + outside + b"".join(strips))
    return file
