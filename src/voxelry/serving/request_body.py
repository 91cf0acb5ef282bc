"""The body of a request: raw bytes of a scan, or JSON with the bytes in base64 and parameters, written to a file."""

from __future__ import annotations

import asyncio
import base64
import binascii
import threading
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from pydantic import Field

from voxelry.base.plain_data import parse_json
from voxelry.base.schema import Frozen, Schema, parse
from voxelry.errors import UsageError
from voxelry.metrics.segmentation_task import SegmentationTask
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.study_reference import StudyReference

_JSON = "application/json"
_JSON_AT_ONCE = threading.Lock()
"""Bodies in JSON are taken apart one after the other: each is held in memory several times over."""


class SegmentParameters(Frozen):
    """The parameters of Hugging Face's image segmentation; None stands for the model's own task, and for no threshold."""

    subtask: SegmentationTask | None = None
    threshold: float | None = Field(default=None, ge=0, le=1)
    mask_threshold: float | None = Field(default=None, ge=0, le=1)
    overlap_mask_area_threshold: float | None = Field(default=None, ge=0, le=1)


async def receive(request: Request, target: Path, limits: ServeLimits) -> tuple[SegmentParameters, StudyReference | None]:
    """Write the scan in a body to a file, or read what the body refers to instead.

    Args:
        request: the request.
        target: the file, which is not there yet.
        limits: what is taken at most.

    Returns:
        The parameters of a body in JSON, of a raw body the defaults; the reference, where the body is one, and no file is left.

    Raises:
        HTTPException: 400 a body that is neither, 408 no byte for too long, 413 too large.
    """
    head = await _write(request, target, limits)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON and not head.lstrip().startswith(b"{"):
        return SegmentParameters(), None
    if target.stat().st_size > limits.json:
        raise too_large(f"a body in JSON of more than {limits.json} bytes", "Send the bytes of the scan as they are.")
    return await asyncio.to_thread(_unwrapped, target)


async def _write(request: Request, target: Path, limits: ServeLimits) -> bytes:
    """Write a body to a file; its first bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.upload:
        raise _beyond(limits)
    head, size, chunks = b"", 0, aiter(request.stream())
    with target.open("xb") as sink:
        while True:
            try:
                chunk = await asyncio.wait_for(anext(chunks, None), limits.silence)
            except TimeoutError:
                raise HTTPException(408, f"no byte came for {limits.silence:g} s. Send the body without a pause.") from None
            if chunk is None:
                break
            size += len(chunk)
            if size > limits.upload:
                raise _beyond(limits)
            head = head or chunk[:64]
            sink.write(chunk)
    if not size:
        raise HTTPException(400, "the body is empty. Send the bytes of an image, a volume or a zip archive of DICOM.")
    return head


def _beyond(limits: ServeLimits) -> HTTPException:
    return too_large(
        f"a body of more than {limits.upload} bytes", "Crop or compress the scan, or start with a larger --max-upload."
    )


def too_large(what: str, remedy: str) -> HTTPException:
    """Status 413, which says what is too large, and the remedy."""
    return HTTPException(413, f"{what}. {remedy}")


def _unwrapped(file: Path) -> tuple[SegmentParameters, StudyReference | None]:
    with _JSON_AT_ONCE:
        return _unwrap(file)


def _unwrap(file: Path) -> tuple[SegmentParameters, StudyReference | None]:
    """Replace JSON in a file by the scan in it, or remove it where it is a reference; its parameters."""
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeError) as error:
        raise HTTPException(
            400, f"the body is not JSON ({error}). Send raw bytes, or a mapping of inputs and parameters."
        ) from None
    if isinstance(content, dict) and "dicomweb" in content:
        file.unlink()
        parameters = parameters_of(content.pop("parameters", None) or {})
        return parameters, _parsed(StudyReference, content, "the reference")
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), str):
        raise HTTPException(400, "JSON without the text 'inputs'. Give the bytes of the scan there, in base64.")
    text = content["inputs"]
    text = text.partition(",")[2] if text.startswith("data:") else text
    try:
        file.write_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"'inputs' is not base64 ({error}). Encode the bytes of the scan.") from None
    return parameters_of(content.get("parameters") or {}), None


def parameters_of(values: Any) -> SegmentParameters:
    """The parameters among some values; others are left alone, as Hugging Face's servers do.

    Raises:
        HTTPException: 400 no mapping, or a value out of range.
    """
    if not isinstance(values, dict):
        raise HTTPException(400, "'parameters' is no mapping. Give subtask, threshold and the like by name.")
    known = {name: value for name, value in values.items() if name in SegmentParameters.model_fields}
    return _parsed(SegmentParameters, known, "parameters")


def _parsed(kind: type[Schema], values: Any, where: str) -> Schema:
    try:
        return parse(kind, values, where)
    except UsageError as error:
        raise HTTPException(400, str(error)) from None
