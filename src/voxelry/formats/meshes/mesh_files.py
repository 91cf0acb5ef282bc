"""Writes mesh files: STL and PLY (binary), OBJ, GLB; each states the direction of its axes.

| file | labels | coordinates | statement of the axes |
|---|---|---|---|
| STL | one a file | mm, LPS or RAS | ``SPACE=LPS`` in the 80 bytes of its header, as Slicer reads and writes it |
| PLY | one a file, coloured | mm, LPS or RAS | ``comment SPACE=LPS`` |
| OBJ | an object each, coloured | mm, LPS or RAS | ``# SPACE=LPS`` |
| GLB | a named, coloured node each | mm, LPS or RAS, under a node that turns them | ``extras`` of that node |

The node of a GLB turns its vertices into metres with +Y up and +Z to the front, as glTF 2.0 (section 3.4) wants them.
Where several labels go to STL or PLY, a folder named after the file (``case.stl``: ``case_stl``) holds one for each.
"""

from __future__ import annotations

import json
import os
import re
import struct
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.distinct_names import distinct_names, folded
from voxelry.base.version import __version__
from voxelry.core.volume import LabelMap
from voxelry.formats.meshes.mesh import Mesh, Space, meshes
from voxelry.formats.multi_file import save_each

_STL_HEADER = 80
_LONGEST_FILE_NAME = 200
"""Bytes of a name; file systems allow 255 with ending and number."""
_GLB_MAGIC, _GLB_VERSION, _GLB_JSON, _GLB_BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED = 5126, 5125
_TO_GLTF = {
    "LPS": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "RAS": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
}
"""Rows: glTF's x (the patient's left), y (head) and z (front) by the axes of the vertices."""


def write_stl(labels: LabelMap, path: str | os.PathLike[str], *, space: Space = "LPS") -> Path:
    """Write labels as binary STL.

    Args:
        labels: three spatial axes, any number of layers.
        path: ends in ``.stl``; where several labels have voxels, ``NAME_stl`` becomes a folder with a file for each.
        space: which way the axes point.

    Returns:
        The path of the file, or of the folder.

    Raises:
        ExportError: a picture, no voxel at all, or another ending.
        LabelError: values that the table does not know.
    """
    return _one_each(labels, Path(path), ".stl", space, stl_bytes)


def write_ply(labels: LabelMap, path: str | os.PathLike[str], *, space: Space = "LPS") -> Path:
    """Write labels as binary PLY with the label's colour at every vertex; otherwise as `write_stl`."""
    return _one_each(labels, Path(path), ".ply", space, _ply_bytes)


def write_obj(labels: LabelMap, path: str | os.PathLike[str], *, space: Space = "LPS") -> Path:
    """Write labels as the objects of one Wavefront OBJ file, coloured by vertex; otherwise as `write_stl`."""
    lines = [f"# voxelry {__version__}", f"# SPACE={space}", "# unit: mm"]
    first, surfaces = 1, meshes(labels, path, space=space)
    plain = [_plain(mesh.label.name) for mesh in surfaces]
    for name, mesh in zip(distinct_names(plain, [mesh.label.value for mesh in surfaces]), surfaces, strict=True):
        red, green, blue = (f"{value / 255:.4g}" for value in mesh.label.rgb)
        lines.append(f"o {name}")
        lines.append(_rows(f"v %.9g %.9g %.9g {red} {green} {blue}", mesh.vertices))
        lines.append(_rows("f %d %d %d", mesh.faces + first))
        first += len(mesh.vertices)
    return _save(Path(path), ".obj", ("\n".join(lines) + "\n").encode())


def write_glb(labels: LabelMap, path: str | os.PathLike[str], *, space: Space = "LPS") -> Path:
    """Write labels as named, coloured nodes of one binary glTF 2.0 file; otherwise as `write_stl`."""
    return _save(Path(path), ".glb", _glb_bytes(meshes(labels, path, space=space), space))


def stl_bytes(mesh: Mesh) -> bytes:
    """A mesh as binary STL: float32 mm, outward normals."""
    corners = mesh.vertices.astype(np.float32)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    record = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    record["normal"], record["corners"] = normals, corners
    head = f"voxelry SPACE={mesh.space} unit=mm {mesh.label.name}".encode("ascii", "replace")[:_STL_HEADER]
    return head.ljust(_STL_HEADER) + struct.pack("<I", len(corners)) + record.tobytes()


def file_names(meshes: Sequence[Mesh], ending: str) -> list[str]:
    """A file name for each label, from its name, with its value where some file system would take two names for one."""
    plain = [re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", mesh.label.name)).strip("._") for mesh in meshes]
    short = [name.encode()[:_LONGEST_FILE_NAME].decode(errors="ignore") for name in plain]
    names = distinct_names(short, [mesh.label.value for mesh in meshes], separator="_", longest=_LONGEST_FILE_NAME, key=folded)
    return [f"{name}{ending}" for name in names]


def _one_each(labels: LabelMap, path: Path, ending: str, space: Space, encode: Callable[[Mesh], bytes]) -> Path:
    surfaces = meshes(labels, path, space=space)
    writers = [lambda file, mesh=mesh: file.write_bytes(encode(mesh)) for mesh in surfaces]
    return save_each(path, ending, file_names(surfaces, ending), writers)


def _save(path: Path, ending: str, content: bytes) -> Path:
    return save_each(path, ending, (), [lambda file: file.write_bytes(content)])  # type: ignore[list-item]


def _plain(name: str) -> str:
    """A label's name on one line."""
    return " ".join(name.split())


def _rows(pattern: str, values: NDArray[Any]) -> str:
    """Each row of an array printed by a pattern."""
    return "\n".join([pattern] * len(values)) % tuple(values.ravel().tolist())


def _ply_bytes(mesh: Mesh) -> bytes:
    points = np.zeros(len(mesh.vertices), dtype=[("place", "<f4", 3), ("color", "u1", 3)])
    points["place"], points["color"] = mesh.vertices, mesh.label.rgb
    faces = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    head = [
        "ply", "format binary_little_endian 1.0", f"comment voxelry {__version__}", f"comment SPACE={mesh.space}",
        "comment unit mm", f"comment label {_plain(mesh.label.name)}", f"element vertex {len(points)}",
        *(f"property float {axis}" for axis in "xyz"), *(f"property uchar {color}" for color in ("red", "green", "blue")),
        f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header",
    ]  # fmt: skip
    return ("\n".join(head) + "\n").encode("ascii", "replace") + points.tobytes() + faces.tobytes()


def _glb_bytes(surfaces: Sequence[Mesh], space: Space) -> bytes:
    """The container of glTF 2.0 section 4.4: a JSON chunk that describes a binary chunk."""
    turn = np.zeros((4, 4))
    turn[:3, :3], turn[3, 3] = np.array(_TO_GLTF[space]) * 1e-3, 1
    says = {"space": space, "unit": "mm", "note": "vertices are in this space; the node's matrix turns them to metres, +Y up"}
    children = [*range(1, len(surfaces) + 1)]
    scene: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"voxelry {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "patient", "matrix": turn.T.ravel().tolist(), "children": children, "extras": says}],
        "meshes": [], "materials": [], "accessors": [], "bufferViews": [],
    }  # fmt: skip
    data = bytearray()
    for number, mesh in enumerate(surfaces):
        attributes = {
            "POSITION": _stored(scene, data, mesh.vertices.astype("<f4"), _FLOAT, "VEC3"),
            "NORMAL": _stored(scene, data, _normals(mesh).astype("<f4"), _FLOAT, "VEC3"),
        }
        faces = _stored(scene, data, mesh.faces.astype("<u4").reshape(-1, 1), _UNSIGNED, "SCALAR")
        scene["meshes"].append(
            {"name": mesh.label.name, "primitives": [{"attributes": attributes, "indices": faces, "material": number}]}
        )
        scene["nodes"].append({"name": mesh.label.name, "mesh": number, "extras": _meaning(mesh)})
        scene["materials"].append(
            {
                "name": mesh.label.name,
                "pbrMetallicRoughness": {"baseColorFactor": _linear(mesh.label.rgb), "metallicFactor": 0, "roughnessFactor": 0.7},
            }
        )
    scene["buffers"] = [{"byteLength": len(data)}]
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(data)
    head = struct.pack("<III", _GLB_MAGIC, _GLB_VERSION, total)
    return head + struct.pack("<II", len(text), _GLB_JSON) + text + struct.pack("<II", len(data), _GLB_BINARY) + bytes(data)


def _stored(scene: dict[str, Any], data: bytearray, values: NDArray[Any], component: int, kind: str) -> int:
    """Append an array to the binary chunk; the number of its accessor."""
    accessor = {"bufferView": len(scene["bufferViews"]), "componentType": component, "count": len(values), "type": kind}
    if component == _FLOAT:
        accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
    scene["bufferViews"].append({"buffer": 0, "byteOffset": len(data), "byteLength": values.nbytes})
    scene["accessors"].append(accessor)
    data += values.tobytes()
    return len(scene["accessors"]) - 1


def _normals(mesh: Mesh) -> NDArray[np.float64]:
    """Outward unit normals of the vertices, the mean of their triangles' by area."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    crosses = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    count = len(mesh.vertices)
    sums = np.column_stack([np.bincount(mesh.faces.ravel(), crosses[:, axis], minlength=count) for axis in range(3)])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), (0.0, 0.0, 1.0))


def _meaning(mesh: Mesh) -> dict[str, Any]:
    codes = {"category": mesh.label.category, "type": mesh.label.type, "modifier": mesh.label.modifier}
    return {"value": mesh.label.value} | {key: code.model_dump() for key, code in codes.items() if code is not None}


def _linear(rgb: Sequence[int]) -> list[float]:
    """A screen colour (IEC 61966-2-1 sRGB) as the linear factors that glTF wants, opaque."""
    values = np.array(rgb) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return [*(round(float(value), 5) for value in linear), 1.0]
