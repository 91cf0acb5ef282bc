"""The example of `docs/how-to/add-a-verb.md`, run as it stands there."""

import json
import re
from pathlib import Path

from helpers.command import run_json
from voxelry import api
from voxelry.cli.main import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-verb.md"


def test_the_function_and_the_command_of_the_how_to_work(torso, monkeypatch):
    function, command = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(function, names)
    monkeypatch.setattr(api, "label_volumes", names["label_volumes"], raising=False)
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    exec(command, {})
    mask = torso / "labels" / "torso_003.nii.gz"
    volumes = api.label_volumes(mask)
    assert volumes["label_1"] > 0
    assert run_json("label-volumes", mask)["mm3"] == json.loads(json.dumps(volumes))
