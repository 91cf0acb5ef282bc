"""Tracks training with MLflow, on the server that ``MLFLOW_TRACKING_URI`` names, else in the run's own folder."""

from __future__ import annotations

import logging
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
"""Limits of one request (MLflow's REST API, "Log Batch")."""
LONGEST_PARAMETER = 6000


class MLflow:
    """A run of MLflow. Data goes to the tracking server or file only: MLflow's own telemetry is switched off.

    Args:
        folder: folder of the run; its name names MLflow's run.
        experiment: name of the experiment, made if missing.
        step: steps done. Measurements that MLflow already has are not sent again.
        checkpointed: this tracker's data in the checkpoint; the run's id is read from it or written into it.
    """

    def __init__(self, folder: Path, experiment: str, step: int, checkpointed: dict[str, str]) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        extra("mlflow", "track: mlflow")
        from mlflow.tracking import MlflowClient

        _disable_telemetry()
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it prints what it raises
        server = os.environ.get("MLFLOW_TRACKING_URI")
        self.client: Any = MlflowClient(server or f"sqlite:///{(folder / STORE_FILE).resolve()}")
        self.pending: list[tuple[str, float, int]] = []
        self.sent: dict[str, int] = {}
        if RUN_ID in checkpointed and step:
            self.run = checkpointed[RUN_ID]
            self.client.update_run(self.run, status="RUNNING")
            for name in self.client.get_run(self.run).data.metrics:
                self.sent[name] = max(metric.step for metric in self.client.get_metric_history(self.run, name))
        else:
            location = None if server else (folder / ARTIFACTS_FOLDER).resolve().as_uri()
            created = self.client.create_run(self._experiment(experiment, location), run_name=folder.name)
            self.run = checkpointed[RUN_ID] = created.info.run_id

    def _experiment(self, name: str, location: str | None) -> str:
        existing = self.client.get_experiment_by_name(name)
        return str(existing.experiment_id if existing else self.client.create_experiment(name, artifact_location=location))

    def describe(self, texts: Mapping[str, str], parameters: Mapping[str, str]) -> None:
        """Record texts as artifacts, settings as parameters."""
        from mlflow.entities import Param

        for name, text in texts.items():
            self.client.log_text(self.run, text, f"{name}.yaml")
        settings = [Param(_name(name), value[:LONGEST_PARAMETER]) for name, value in parameters.items()]
        for first in range(0, len(settings), MOST_PARAMETERS):
            self.client.log_batch(self.run, params=settings[first : first + MOST_PARAMETERS])

    def measure(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at a step; `flush` sends them."""
        self.pending += [(_name(name), value, step) for name, value in values.items()]

    def flush(self) -> None:
        """Send the recorded values, in as few requests as possible."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [Metric(name, value, now, step) for name, value, step in self.pending if step > self.sent.get(name, -1)]
        for first in range(0, len(new), MOST_METRICS):
            self.client.log_batch(self.run, metrics=new[first : first + MOST_METRICS])
        self.pending = []

    def finish(self, facts: Mapping[str, str]) -> None:
        """Record facts as tags."""
        for name, fact in facts.items():
            self.client.set_tag(self.run, _name(name), fact)

    def close(self) -> None:
        """End the run, for now."""
        self.flush()
        self.client.set_terminated(self.run)


def _name(text: str) -> str:
    """A name that MLflow accepts: letters, digits, and ``_-. :/``."""
    return re.sub(r"[^\w\-. :/]", "_", text)


def _disable_telemetry() -> None:
    """Switch telemetry off in case MLflow was imported (by MONAI, say) before its environment variable was set."""
    with suppress(ImportError):  # versions before 3.2 send nothing
        from mlflow.telemetry import set_telemetry_client

        set_telemetry_client()
