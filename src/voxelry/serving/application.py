"""The HTTP application: Hugging Face's image-segmentation contract, jobs, their results, and the page."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from voxelry.base.failures import task_failures
from voxelry.base.version import version
from voxelry.errors import MissingExtraError, UnexpectedError, UnsupportedFormatError, VoxelryError
from voxelry.serving.device_queue import ClosingError, DeviceQueue, QueueFullError
from voxelry.serving.dicom_node import DicomNode
from voxelry.serving.job_results import SCAN, download, draw_slice, read_answer
from voxelry.serving.job_store import REFERENCE, CancelledJobError, JobState, JobStore, without_path
from voxelry.serving.request_body import SegmentParameters, parameters_of, receive
from voxelry.serving.segment_answer import answer_of
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_archives import ServedArchives
from voxelry.serving.served_model import ServedModel
from voxelry.serving.study_reference import StudyFetcher, StudyReference

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[VoxelryError], int], ...] = (
    (QueueFullError, 429), (ClosingError, 503), (UnexpectedError, 500), (MissingExtraError, 500), (UnsupportedFormatError, 415),
)  # fmt: skip
_UNPROCESSABLE = 422
"""Status of every other error: of what was sent."""
_CLOSED_BY_CLIENT = 499
"""nginx's status of a request whose client is gone; nobody reads it."""
_LOOK = 1.0
"""Seconds between looks whether a client still waits."""
_RETRY_AFTER = 10
_DISK_FAILS = "the server could not read or write its disk. Try again later."
_PAGE = {"": "text/html", "app.js": "text/javascript", "app.css": "text/css"}
_NO_ARCHIVES = ServedArchives()
_SCAN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "inputs": {"type": "string", "format": "byte"},
                        "parameters": SegmentParameters.model_json_schema(),
                    },
                }
            },
        },
    }
}
"""Of the OpenAPI document: raw bytes of a scan, or JSON."""
_JOB_BODY = deepcopy(_SCAN_BODY)
"""The same, or a reference to a study."""
_AS_JSON = _JOB_BODY["requestBody"]["content"]["application/json"]
_AS_JSON["schema"] = {"anyOf": [_AS_JSON["schema"], StudyReference.model_json_schema()]}


class Application:
    """What answers requests, and what it answers with.

    Args:
        models: id -> model; the first answers at ``/``.
        folder: where jobs are kept.
        limits: what is taken at most.
        archives: the archives that it speaks to.

    Attributes:
        queue: of the device.
        jobs: the jobs.
        node: the DICOM node, or None.
        api: the application for a server.
    """

    def __init__(
        self, models: dict[str, ServedModel], folder: Path, limits: ServeLimits, archives: ServedArchives = _NO_ARCHIVES
    ) -> None:
        self._models, self._limits = models, limits
        self.queue = DeviceQueue(str(next(iter(models.values())).predictor.device), limits.waiting)
        self._fetcher = StudyFetcher(archives, limits)
        self.jobs = JobStore(folder, models, self.queue, limits, self._fetcher.fetch)
        self.node = None if archives.node is None else DicomNode(archives, self.jobs, models, folder, limits)
        self.api = FastAPI(title="voxelry", version=version(), docs_url=None, redoc_url=None, lifespan=self._life)
        self._add_routes()
        for kind in (VoxelryError, OSError, AnyHTTPException, RequestValidationError, ClientDisconnect):
            self.api.add_exception_handler(kind, _answer_error)

    @asynccontextmanager
    async def _life(self, _: FastAPI) -> AsyncIterator[None]:
        """Take up earlier jobs at the start; at the end let the work that runs come to its end."""
        self.jobs.resume()
        if self.node is not None:
            self.node.start()
        yield
        if self.node is not None:
            await asyncio.to_thread(self.node.stop)
        self.queue.close()
        await asyncio.to_thread(self.queue.join)
        self.jobs.close()

    def _add_routes(self) -> None:
        add = self.api.add_api_route
        for address in ("/", "/models/{model}"):
            add(address, self.segment, methods=["POST"], openapi_extra=_SCAN_BODY, summary="Segment a scan at once")
        for prefix in ("", "/models/{model}"):
            add(f"{prefix}/health", self.health, methods=["GET"], summary="Whether the server lives")
            add(f"{prefix}/info", self.info, methods=["GET"], summary="The models and what is taken")
        add(
            "/jobs",
            self.add_job,
            methods=["POST"],
            status_code=202,
            openapi_extra=_JOB_BODY,
            summary="Segment in the background",
        )
        add("/jobs/{job}", self.job, methods=["GET"], summary="State of a job")
        add("/jobs/{job}", self.cancel, methods=["DELETE"], summary="Cancel a job, or delete its result")
        add("/jobs/{job}/answer", self.answer, methods=["GET"], summary="The segments of a job")
        add("/jobs/{job}/files/{format}", self.file, methods=["GET"], summary="The labels of a job in a format")
        add("/jobs/{job}/slices/{plane}/{index}", self.slice, methods=["GET"], summary="A slice with its labels, as PNG")
        add("/", page, methods=["GET"], include_in_schema=False)
        add("/web/{name}", page, methods=["GET"], include_in_schema=False)

    async def segment(self, request: Request, model: str = "", series: str | None = None) -> Response:
        """Hugging Face's image segmentation: a body in, a list of label, score and mask out."""
        served = self._model(model)
        with self.queue.admission():
            folder, gone = self.jobs.incoming(), threading.Event()
            try:
                parameters, reference = await receive(request, folder / SCAN, self._limits)
                if reference is not None:
                    raise HTTPException(400, "a reference to a study is no scan. Send it to /jobs, which fetches it.")
                work = partial(self._segment, served, folder, parameters, series, gone)
                elements = await self._result(request, work, gone)
            except VoxelryError as error:
                raise _public(error, folder) from error
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, True)
        return JSONResponse(elements)

    def _segment(
        self, served: ServedModel, folder: Path, parameters: SegmentParameters, series: str | None, gone: threading.Event
    ) -> list[dict[str, Any]]:
        """The work of a request: of a volume the result is kept, and each element names it."""

        def watch(*_: Any) -> None:
            if gone.is_set():
                raise CancelledJobError

        watch()
        with task_failures("the scan"):
            volume, prediction = served.segment(folder / SCAN, self._limits, series, watch)
            answer = answer_of(prediction, parameters, served.task)
            if volume.geometry.ndim == 2:
                return answer.elements
            id = self.jobs.keep(folder, served.id, volume, prediction, answer, series)
        return [{**element, "volume": f"/jobs/{id}/files/nifti"} for element in answer.elements]

    async def _result(self, request: Request, work: Any, gone: threading.Event) -> Any:
        """What a piece of work gives, unless the client goes away meanwhile."""
        future = self.queue.submit(_client(request), work)
        waiting = asyncio.wrap_future(future)
        while not (await asyncio.wait([waiting], timeout=_LOOK))[0]:
            if await request.is_disconnected():
                gone.set()
                future.cancel()
                raise ClientDisconnect
        return waiting.result()

    async def add_job(
        self,
        request: Request,
        model: str = "",
        series: str | None = None,
        subtask: str | None = None,
        threshold: float | None = None,
    ) -> Response:
        """Take a scan; its state is at the address of the answer's header Location."""
        served = self._model(model)
        asked = parameters_of({"subtask": subtask, "threshold": threshold})
        with self.queue.admission():
            self.jobs.sweep()
            folder = self.jobs.incoming()
            try:
                sent, reference = await receive(request, folder / SCAN, self._limits)
                given = SegmentParameters(**{**sent.model_dump(), **asked.model_dump(exclude_none=True)})
                more = {}
                if reference is not None:
                    self._fetcher.check(reference)
                    more = {REFERENCE: reference.model_dump()}
                state = self.jobs.add(folder, served.id, _client(request), given, series, more)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, True)
        return JSONResponse(_described(state), 202, {"Location": f"/jobs/{state.id}"})

    async def job(self, job: str) -> dict[str, Any]:
        """State and progress; of a job that is done also what its result has."""
        state = self._state(job)
        if state.state != "done":
            return _described(state)
        result = await asyncio.to_thread(read_answer, self.jobs.folder(job))
        return {**_described(state), "planes": result["planes"], "formats": result["formats"]}

    async def cancel(self, job: str) -> dict[str, Any]:
        """Cancel a job that waits or runs; of one that has ended delete all that is kept."""
        self._state(job)
        return _described(self.jobs.cancel(job))

    async def answer(self, job: str) -> list[dict[str, Any]]:
        """The list that a request without a job is answered with."""
        self._done(job)
        result = await asyncio.to_thread(read_answer, self.jobs.folder(job))
        segments: list[dict[str, Any]] = result["segments"]
        return segments

    async def file(self, job: str, format: str) -> Response:
        """A download; several files come as a zip archive."""
        state = self._done(job)
        card = self._model(state.model).predictor.model.card
        folder = self.jobs.folder(job)
        try:
            path = await asyncio.to_thread(download, folder, format, card, self.jobs.detail(job, "series"))
        except VoxelryError as error:
            raise _public(error, folder) from error
        return FileResponse(path, filename=path.name, media_type="application/octet-stream")

    async def slice(self, job: str, plane: str, index: int) -> Response:
        """A picture of a slice."""
        self._done(job)
        return Response(await asyncio.to_thread(draw_slice, self.jobs.folder(job), plane, index), media_type="image/png")

    async def health(self) -> dict[str, str]:
        """Answers as long as the server does."""
        return {"status": "ok"}

    async def info(self, model: str = "") -> dict[str, Any]:
        """What a client needs to know; at the address of a model, that model alone."""
        models = [self._model(model)] if model else list(self._models.values())
        described = [served.describe() for served in models]
        return {
            "model_id": described[0]["id"],
            "task": "image-segmentation",
            "version": version(),
            "models": described,
            "max_upload": self._limits.upload,
            "waiting": self.queue.length,
        }

    def _model(self, id: str) -> ServedModel:
        if not id:
            return next(iter(self._models.values()))
        if id not in self._models:
            raise HTTPException(404, f"no model '{id[:200]}'. There are {', '.join(self._models)}.")
        return self._models[id]

    def _state(self, job: str) -> JobState:
        try:
            return self.jobs.state(job)
        except KeyError:
            raise HTTPException(404, "no such job. It was deleted, or never was.") from None

    def _done(self, job: str) -> JobState:
        state = self._state(job)
        if state.state != "done":
            raise HTTPException(409, f"the job is {state.state}. Ask for results when it is done.")
        return state


async def page(name: str = "") -> Response:
    """The web page, or a file that it loads."""
    if name not in _PAGE:
        raise HTTPException(404, "no such file")
    content = files("voxelry.serving").joinpath("web", name or "index.html").read_bytes()
    return Response(content, media_type=_PAGE[name])


def _described(state: JobState) -> dict[str, Any]:
    return {**asdict(state), "url": f"/jobs/{state.id}"}


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _public(error: VoxelryError, folder: Path) -> Exception:
    """An error as its client may see it: without paths of the server."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), _UNPROCESSABLE)
    if isinstance(error, QueueFullError | ClosingError | CancelledJobError):
        return error
    if status >= 500:
        log.exception("a request failed", exc_info=error)
    detail = {"error": without_path(error, folder)}
    choices = list(getattr(error, "choices", ()))
    return HTTPException(status, {**detail, "choices": choices} if choices else detail)


async def _answer_error(_: Request, error: Exception) -> Response:
    """Every error as JSON with the key ``error``."""
    if isinstance(error, ClientDisconnect | CancelledJobError):
        return Response(status_code=_CLOSED_BY_CLIENT)
    if isinstance(error, RequestValidationError):
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return JSONResponse({"error": f"the request is wrong: {'; '.join(lines)}."}, _UNPROCESSABLE)
    if isinstance(error, OSError):
        log.error("a request failed", exc_info=error)
        return JSONResponse({"error": _DISK_FAILS}, 507 if error.errno == errno.ENOSPC else 500)
    if isinstance(error, AnyHTTPException):
        detail: Any = error.detail
        content = detail if isinstance(detail, dict) else {"error": detail}
        return JSONResponse(content, error.status_code, error.headers)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), _UNPROCESSABLE)
    retry = {"Retry-After": str(getattr(error, "retry_after", _RETRY_AFTER))} if status in (429, 503) else None
    return JSONResponse({"error": str(error)}, status, retry)
