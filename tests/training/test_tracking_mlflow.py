"""Runs read back by MLflow's own client, from a file and from a server."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from helpers.training_cases import loop
from training.test_loop import StopError, stop_before_checkpoint
from voxelry.training.checkpoint import load_checkpoint
from voxelry.training.tracking import track_result

QUIET = lambda progress: None  # noqa: E731
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(mlflow|alembic|sqlalchemy).*"),
]


def client(uri):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def only_run(found, name="none"):
    (run,) = found.search_runs([found.get_experiment_by_name(name).experiment_id])
    return run


def check_whole(found, state, folder):
    """The run as MLflow has it is the run that was trained."""
    run = only_run(found)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == folder.name
    assert run.data.params["optimiser.name"] == "adamw"
    assert run.data.tags["model"] == str(folder / "model")
    history = found.get_metric_history(run.info.run_id, "pseudo_dice")
    assert [(m.step, m.value) for m in history] == [(m.step, m.pseudo_dice) for m in state.history]
    losses = found.get_metric_history(run.info.run_id, "loss")
    assert [m.step for m in losses] == list(range(10, state.step + 1, 10))
    assert run.data.metrics["validation/dice/spine"] == 0.75
    assert {file.path for file in found.list_artifacts(run.info.run_id)} == {"recipe.yaml", "plan.yaml"}


def train_in_parts(folder, monkeypatch):
    """A run that breaks off after a milestone that was tracked, before its checkpoint, and goes on."""
    settings = {"steps": 40, "validations": 4, "track": ["mlflow"]}
    with monkeypatch.context() as patch:
        stop_before_checkpoint(patch, 30)
        with pytest.raises(StopError):
            loop(folder, **settings).run(QUIET)
    rest = loop(folder, **settings)
    rest.restore(load_checkpoint(folder))
    assert rest.state.step == 20
    state = rest.run(QUIET)
    track_result(rest.config, rest.plan, folder, state, {"dice/spine": 0.75}, folder / "model")
    return state


def test_a_run_in_a_local_file(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    state = train_in_parts(tmp_path / "run", monkeypatch)
    check_whole(client(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}"), state, tmp_path / "run")
    assert {file.name for file in tmp_path.iterdir()} == {"run"}  # nothing where the process happens to stand


TELEMETRY = """
import mlflow
from pathlib import Path
from mlflow.telemetry import get_telemetry_client
from voxelry.training.tracking_mlflow import MLflow

assert get_telemetry_client() is not None, "MLflow's telemetry was off before"
MLflow(Path("run"), "none", 0, {})
assert get_telemetry_client() is None
"""
"""MLflow comes first, as where MONAI imports it."""


def test_nothing_is_phoned_home(tmp_path):
    off = ("PYTEST_CURRENT_TEST", "CI", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in off}
    environment["HTTPS_PROXY"] = "http://127.0.0.1:9"  # importing MLflow sends nothing out of a test either
    (tmp_path / "run").mkdir()
    subprocess.run([sys.executable, "-c", TELEMETRY], cwd=tmp_path, env=environment, check=True)


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@pytest.fixture
def server(tmp_path):
    """A real MLflow server."""
    port, home = free_port(), tmp_path / "server"
    home.mkdir()
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "artifacts")]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1"], cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            uri = f"http://127.0.0.1:{port}"
            wait_for(f"{uri}/health", process, home / "log")
            yield uri
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def wait_for(url, process, log):
    until_then = time.monotonic() + 150
    while time.monotonic() < until_then:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_a_run_on_a_server(tmp_path, monkeypatch, server):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    state = train_in_parts(tmp_path / "run", monkeypatch)
    check_whole(client(server), state, tmp_path / "run")
    assert not (tmp_path / "run" / "mlflow.db").exists()
