"""The notebooks: paired with their scripts, stored without output, and run."""

import asyncio
import json
import re
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SECONDS = 240


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@pytest.fixture
def this_interpreter(tmp_path, monkeypatch):
    """The kernel `python3` is the Python that runs the tests, whatever is installed elsewhere; its history stays in memory."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--HistoryManager.enabled=False"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_there_is_a_notebook_for_each_task():
    tasks = "quickstart train_chest_xray train_spine_mri segment_dicom_folder analyse_batch compare_models instances_and_lesions"
    assert {*tasks.split(), "follow_up", "export_to_clinic"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_says_where_to_put_real_data(path):
    text = path.with_suffix(".py").read_text(encoding="utf-8")
    assert re.search(r"[Yy]our own\W+data", text)
    assert "not a medical device" in re.sub(r"\n# ?", " ", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_and_its_script_say_the_same(path):
    script = path.with_suffix(".py")
    assert script.is_file(), f"pair it: jupytext --set-formats ipynb,py:percent {path.name}"
    assert cells(nbformat.read(path, as_version=4)) == cells(jupytext.read(script)), f"sync them: jupytext --sync {path.name}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_stored_without_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path, this_interpreter, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    folder = tmp_path / "cwd"
    folder.mkdir()
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    asyncio.run(client.async_execute())
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert all(cell.execution_count for cell in code)
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert list(folder.iterdir()) == [], "a notebook writes to a temporary folder of its own"
