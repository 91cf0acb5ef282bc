"""The body of a request: raw bytes of a scan, or JSON with the bytes in base64 and parameters, written to a file."""

from __future__ import annotations

import asyncio
import base64
import binascii
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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


@dataclass(eq=False)
class OpenedBody:
    """A body of which the beginning has come, or all.

    Attributes:
        kind: the media type that it claims to be.
        beginning: what has come.
        rest: gives what comes, each time some bytes; None at the end.
    """

    kind: str
    beginning: bytes
    rest: Callable[[], Awaitable[bytes | None]] | None


async def open_body(request: Request, limits: ServeLimits) -> OpenedBody:
    """Receive the beginning of a body into memory: who sends slowly takes no place from others meanwhile.

    Args:
        request: the request.
        limits: what is taken at most.

    Raises:
        HTTPException: 400 an empty body, 408 no byte for too long, 413 too large by its own statement.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.upload:
        raise _beyond(limits)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    chunks = aiter(request.stream())

    async def more() -> bytes | None:
        try:
            async with asyncio.timeout(limits.silence):
                return await anext(chunks, None)
        except TimeoutError:
            raise HTTPException(408, f"no byte came for {limits.silence:g} s. Send the body without a pause.") from None

    beginning: list[bytes] = []
    while sum(map(len, beginning)) <= limits.opening:
        chunk = await more()
        if chunk is None:
            if not any(beginning):
                raise HTTPException(400, "the body is empty. Send the bytes of an image, a volume or a zip archive of DICOM.")
            return OpenedBody(kind, b"".join(beginning), None)
        beginning.append(chunk)
    return OpenedBody(kind, b"".join(beginning), more)


async def receive(body: OpenedBody, target: Path, limits: ServeLimits) -> tuple[SegmentParameters, StudyReference | None]:
    """Write the scan in a body to a file, or read what the body refers to instead.

    Args:
        body: the body.
        target: the file, which is not there yet.
        limits: what is taken at most.

    Returns:
        The parameters of a body in JSON, of a raw body the defaults; the reference, where the body is one, and no file is left.

    Raises:
        HTTPException: 400 a body that is neither, 408 no byte for too long, 413 too large.
    """
    await _write(body, target, limits)
    if body.kind != _JSON and not body.beginning[:64].lstrip().startswith(b"{"):
        return SegmentParameters(), None
    if target.stat().st_size > limits.json:
        raise too_large(f"a body in JSON of more than {limits.json} bytes", "Send the bytes of the scan as they are.")
    return await asyncio.to_thread(_unwrapped, target)


async def _write(body: OpenedBody, target: Path, limits: ServeLimits) -> None:
    size, chunk = 0, body.beginning or None
    with target.open("xb") as sink:
        while chunk is not None:
            size += len(chunk)
            if size > limits.upload:
                raise _beyond(limits)
            sink.write(chunk)
            chunk = None if body.rest is None else await body.rest()


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
