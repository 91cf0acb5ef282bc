"""The HTTP application: Hugging Face's image-segmentation contract, jobs, their results, and the page."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

from voxelry.base.failures import task_failures
from voxelry.base.version import version
from voxelry.errors import VoxelryError
from voxelry.serving.device_queue import DeviceQueue, Turn
from voxelry.serving.dicom_node import DicomNode
from voxelry.serving.gatekeeper import client_of
from voxelry.serving.http_errors import HANDLED, answer_error, public_error
from voxelry.serving.job_results import SCAN, download, draw_slice, measured, read_answer
from voxelry.serving.job_store import REFERENCE, CancelledJobError, JobState, JobStore
from voxelry.serving.request_body import OpenedBody, SegmentParameters, open_body, parameters_of, receive
from voxelry.serving.segment_answer import answer_of
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_archives import ServedArchives
from voxelry.serving.served_model import ServedModel
from voxelry.serving.server_metrics import CONTENT_TYPE, ServerMetrics
from voxelry.serving.study_reference import StudyFetcher, StudyReference
from voxelry.serving.token_scopes import METRICS_PATH

_LOOK = 1.0
"""Seconds between looks whether a client still waits."""
_SWEEP = 600.0
"""Seconds between looks for results whose time is over, at most."""
_LEAST_DISK = 2**28
"""Bytes of disk without which no scan can be received."""
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
        metrics: what is counted.
        node: the DICOM node, or None.
        api: the application for a server.
    """

    def __init__(
        self, models: dict[str, ServedModel], folder: Path, limits: ServeLimits, archives: ServedArchives = _NO_ARCHIVES
    ) -> None:
        self._models, self._limits, self._folder = models, limits, folder
        self.queue = DeviceQueue(next(iter(models.values())).devices, limits.waiting, limits.together)
        self._fetcher = StudyFetcher(archives, limits)
        self.jobs = JobStore(folder, models, self.queue, limits, self._fetcher.fetch)
        self.metrics = ServerMetrics(lambda: self.queue.length, self.jobs.counts)
        self.node = None if archives.node is None else DicomNode(archives, self.jobs, models, folder, limits)
        self.api = FastAPI(title="voxelry", version=version(), docs_url=None, redoc_url=None, lifespan=self._life)
        self._add_routes()
        for kind in HANDLED:
            self.api.add_exception_handler(kind, answer_error)

    @asynccontextmanager
    async def _life(self, _: FastAPI) -> AsyncIterator[None]:
        """Take up earlier jobs at the start; at the end let the work that runs come to its end."""
        self.jobs.resume()
        if self.node is not None:
            self.node.start()
        sweeping = asyncio.create_task(self._sweep())
        yield
        sweeping.cancel()
        if self.node is not None:
            await asyncio.to_thread(self.node.stop)
        self.queue.close()
        await asyncio.to_thread(self.queue.join)
        self.jobs.close()

    async def _sweep(self) -> None:
        """Delete results when their time is over, whether anybody asks for anything or not."""
        while True:
            await asyncio.to_thread(self.jobs.sweep)
            await asyncio.sleep(min(_SWEEP, max(1.0, self._limits.keep)))

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
        add("/jobs/{job}/measurements", self.measurements, methods=["GET"], summary="Sizes and intensities of a job's labels")
        add("/jobs/{job}/files/{format}", self.file, methods=["GET"], summary="The labels of a job in a format")
        add("/jobs/{job}/slices/{plane}/{index}", self.slice, methods=["GET"], summary="A slice with its labels, as PNG")
        add("/ready", self.ready, methods=["GET"], summary="Whether requests are taken")
        add(METRICS_PATH, self.counts, methods=["GET"], summary="Counts for Prometheus", response_class=PlainTextResponse)
        add("/", page, methods=["GET"], include_in_schema=False)
        add("/web/{name}", page, methods=["GET"], include_in_schema=False)

    async def segment(self, request: Request, model: str = "", series: str | None = None) -> Response:
        """Hugging Face's image segmentation: a body in, a list of label, score and mask out."""
        served = self._model(model)
        body = await self._opened(request)
        async with AsyncExitStack() as received:
            received.enter_context(self.queue.admission())
            folder, gone = self.jobs.incoming(), threading.Event()
            received.push_async_callback(_remove, folder, body)
            try:
                parameters, reference = await receive(body, folder / SCAN, self._limits)
                if reference is not None:
                    raise HTTPException(400, "a reference to a study is no scan. Send it to /jobs, which fetches it.")
                work = partial(self._segment, served, folder, parameters, series, gone)
                kind = await self._kind(served, folder / SCAN)
                elements, request.scope["job"] = await self._result(request, work, kind, gone)
            except VoxelryError as error:
                raise public_error(error, folder) from error
            answered = received.pop_all()  # a disk that is busy may take longer to delete the scan than all else takes
        return JSONResponse(elements, background=BackgroundTask(answered.aclose))

    async def _opened(self, request: Request) -> OpenedBody:
        """The beginning of a body, unless there is no place for the request anyway."""
        self.queue.check_room()
        return await open_body(request, self._limits)

    def _segment(
        self,
        served: ServedModel,
        folder: Path,
        parameters: SegmentParameters,
        series: str | None,
        gone: threading.Event,
        turn: Turn,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The work of a request: of a volume the result is kept, and each element names it; its elements, and the job."""

        def watch(*_: Any) -> None:
            if gone.is_set():
                raise CancelledJobError

        watch()
        with task_failures("the scan"):
            volume, prediction = served.segment(folder / SCAN, self._limits, series, watch, turn)
            answer = answer_of(prediction, parameters, served.task)
            if volume.geometry.ndim == 2:
                return answer.elements, None
            id = self.jobs.keep(folder, served.id, volume, prediction, answer, series)
        return [{**element, "volume": f"/jobs/{id}/files/nifti"} for element in answer.elements], id

    async def _kind(self, served: ServedModel, scan: Path) -> str | None:
        """What small pictures for one model have in common; it is looked for only where they would have to wait anyway."""
        return served.id if self.queue.length and await asyncio.to_thread(served.is_small, scan) else None

    async def _result(self, request: Request, work: Any, kind: str | None, gone: threading.Event) -> Any:
        """What a piece of work gives, unless the client goes away meanwhile."""
        future = self.queue.submit(client_of(request.scope), work, kind)
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
        body = await self._opened(request)
        with self.queue.admission():
            self.jobs.sweep()
            folder = self.jobs.incoming()
            try:
                sent, reference = await receive(body, folder / SCAN, self._limits)
                given = SegmentParameters(**{**sent.model_dump(), **asked.model_dump(exclude_none=True)})
                more = {}
                if reference is not None:
                    self._fetcher.check(reference)
                    more = {REFERENCE: reference.model_dump()}
                state = self.jobs.add(folder, served.id, client_of(request.scope), given, series, more)
                request.scope["job"] = state.id
            finally:
                await _remove(folder, body)
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

    async def measurements(self, job: str) -> list[dict[str, Any]]:
        """Sizes, diameters and intensities of every label, or object, as JSON."""
        self._done(job)
        folder = self.jobs.folder(job)
        try:
            return await asyncio.to_thread(measured, folder, self.jobs.detail(job, "series"))
        except VoxelryError as error:
            raise public_error(error, folder) from error

    async def file(self, job: str, format: str) -> Response:
        """A download; several files come as a zip archive."""
        state = self._done(job)
        card = self._model(state.model).predictor.model.card
        folder = self.jobs.folder(job)
        try:
            path = await asyncio.to_thread(download, folder, format, card, self.jobs.detail(job, "series"))
        except VoxelryError as error:
            raise public_error(error, folder) from error
        return FileResponse(path, filename=path.name, media_type="application/octet-stream")

    async def slice(self, job: str, plane: str, index: int) -> Response:
        """A picture of a slice."""
        self._done(job)
        return Response(await asyncio.to_thread(draw_slice, self.jobs.folder(job), plane, index), media_type="image/png")

    async def health(self) -> dict[str, str]:
        """Answers as long as the server does."""
        return {"status": "ok"}

    async def ready(self) -> Response:
        """Status 200 where requests are taken; 503 while the server ends, or where its disk is full."""
        room = shutil.disk_usage(self._folder).free
        reason = "shutting down" if self.queue.is_closed else "the disk is full" if room < _LEAST_DISK else ""
        return JSONResponse({"status": reason or "ready"}, 503 if reason else 200)

    async def counts(self) -> Response:
        """What Prometheus reads."""
        return Response(await asyncio.to_thread(self.metrics.text), media_type=CONTENT_TYPE)

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


async def _remove(folder: Path, body: OpenedBody) -> None:
    """Delete what was received, if it is still there; what is small at once, since a thread takes longer to begin."""
    if body.rest is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        await asyncio.to_thread(shutil.rmtree, folder, True)


def _described(state: JobState) -> dict[str, Any]:
    return {**asdict(state), "url": f"/jobs/{state.id}"}
