"""A server of models in a thread of this process, on a free port of the loopback."""

import faulthandler
import threading
from contextlib import contextmanager
from pathlib import Path

from voxelry.serving.access_tokens import AccessTokens
from voxelry.serving.application import Application
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_archives import ServedArchives
from voxelry.serving.served_model import ServedModel, load_served
from voxelry.serving.server import ModelServer

SECONDS = 60


class RunningServer:
    """A server that answers; `application` is what it answers with, `url` where."""

    def __init__(self, models: dict[str, ServedModel], folder: Path, token, limits: ServeLimits, archives) -> None:
        self.application = Application(models, folder, limits, archives)
        self._listening = threading.Event()
        tokens = token if isinstance(token, AccessTokens) else AccessTokens(token)
        self._server = ModelServer(self.application, "127.0.0.1", 0, tokens, limits, self._note)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        assert self._listening.wait(SECONDS)

    def _note(self, url: str) -> None:
        self.url = url
        self._listening.set()

    def stop(self) -> None:
        """As SIGTERM does."""
        self._server.handle_exit(15, None)
        self._thread.join(SECONDS)
        if self._thread.is_alive():
            faulthandler.dump_traceback()  # what it waits for
        assert not self._thread.is_alive()


@contextmanager
def running(paths, folder: Path, token: str | AccessTokens | None = None, archives: ServedArchives = ServedArchives(), **limits):  # noqa: B008
    """A server of model folders, or of models that are loaded."""
    models = paths if isinstance(paths, dict) else load_served(paths, "cpu")
    server = RunningServer(models, folder, token, ServeLimits(**limits), archives)
    try:
        yield server
    finally:
        server.stop()
