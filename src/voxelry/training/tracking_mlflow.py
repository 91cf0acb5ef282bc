"""The course of training as a run of MLflow: on the server that ``MLFLOW_TRACKING_URI`` names, else in the run's own folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from voxelry.base.extras import extra

STORE_FILE = "mlflow.db"
ARTIFACTS_FOLDER = "mlflow"
RUN_ID = "mlflow"
"""Key of the run's id in a checkpoint."""

MOST_METRICS = 1000
MOST_PARAMETERS = 100
"""That one request may hold (MLflow's REST API, "Log Batch")."""
LONGEST_PARAMETER = 6000


class MLflow:
    """A run of MLflow. Nothing is sent anywhere but to the tracking server or file: MLflow's own telemetry is switched off.

    Args:
        folder: of the run; its name names MLflow's run.
        experiment: name of the experiment, made if missing.
        step: steps done. Measurements up to those that MLflow holds are not sent again.
        kept: what a checkpoint keeps for this tracker; the run's id is read from it or put into it.
    """

    def __init__(self, folder: Path, experiment: str, step: int, kept: dict[str, str]) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        extra("mlflow", "track: mlflow")
        from mlflow.tracking import MlflowClient

        _hang_up()
        server = os.environ.get("MLFLOW_TRACKING_URI")
        self.client: Any = MlflowClient(server or f"sqlite:///{(folder / STORE_FILE).resolve()}")
        self.waiting: list[tuple[str, float, int]] = []
        self.known: dict[str, int] = {}
        if RUN_ID in kept and step:
            self.run = kept[RUN_ID]
            self.client.update_run(self.run, status="RUNNING")
            for name in self.client.get_run(self.run).data.metrics:
                self.known[name] = max(metric.step for metric in self.client.get_metric_history(self.run, name))
        else:
            place = None if server else (folder / ARTIFACTS_FOLDER).resolve().as_uri()
            created = self.client.create_run(self._experiment(experiment, place), run_name=folder.name)
            self.run = kept[RUN_ID] = created.info.run_id

    def _experiment(self, name: str, place: str | None) -> str:
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.client.create_experiment(name, artifact_location=place))

    def describe(self, texts: Mapping[str, str], parameters: Mapping[str, str]) -> None:
        """Texts as artifacts, settings as parameters."""
        from mlflow.entities import Param

        for name, text in texts.items():
            self.client.log_text(self.run, text, f"{name}.yaml")
        settings = [Param(_name(name), value[:LONGEST_PARAMETER]) for name, value in parameters.items()]
        for first in range(0, len(settings), MOST_PARAMETERS):
            self.client.log_batch(self.run, params=settings[first : first + MOST_PARAMETERS])

    def measure(self, step: int, values: Mapping[str, float]) -> None:
        """Values at a step; they wait for `flush`."""
        self.waiting += [(_name(name), value, step) for name, value in values.items()]

    def flush(self) -> None:
        """Send what waits, in as few requests as may be."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [Metric(name, value, now, step) for name, value, step in self.waiting if step > self.known.get(name, -1)]
        for first in range(0, len(new), MOST_METRICS):
            self.client.log_batch(self.run, metrics=new[first : first + MOST_METRICS])
        self.waiting = []

    def finish(self, facts: Mapping[str, str]) -> None:
        """Facts as tags."""
        for name, fact in facts.items():
            self.client.set_tag(self.run, _name(name), fact)

    def close(self) -> None:
        """The run is over, for now."""
        self.flush()
        self.client.set_terminated(self.run)


def _name(text: str) -> str:
    """A name as MLflow takes it: letters, digits, and ``_-. :/``."""
    return re.sub(r"[^\w\-. :/]", "_", text)


def _hang_up() -> None:
    """Switch telemetry off where MLflow was imported, by MONAI say, before its variable of the environment was set."""
    with suppress(ImportError):  # versions before 3.2 send nothing
        from mlflow.telemetry import set_telemetry_client

        set_telemetry_client()
