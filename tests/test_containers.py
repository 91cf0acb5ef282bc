"""The Dockerfile and compose.yaml, checked as files: no engine runs where the tests do. Planted faults are seen."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from voxelry.cli.main import app
from voxelry.pacs.pacs_address import WebAddress, parse_address
from voxelry.serving.node_settings import read_node_settings
from voxelry.zoo.model_names import find_model

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
SERVE = typer.main.get_command(app).commands["serve"]
PINNED = re.compile(r"[a-z0-9/.-]+:\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")
SECRET = re.compile(r"(?i)(token|password|secret|api_?key)\w*\s*[=:]\s*['\"]?(?!\$\{|None)[\w/+-]{6,}")
KEYWORDS = set("ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN STOPSIGNAL USER VOLUME WORKDIR".split())
SERVICE_KEYS = set(
    "build cap_drop command configs depends_on environment image mem_limit networks pids_limit ports read_only restart "
    "security_opt stop_grace_period tmpfs volumes".split()
)


def instructions(text):
    """(keyword, rest) of each instruction, with continued lines joined."""
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def served(words):
    """What `voxelry serve` makes of some words; its own parser refuses what it does not know."""
    with SERVE.make_context("serve", list(words)) as context:
        return context.params


def problems_of_dockerfile(text):
    """What a linter would say."""
    rows = instructions(text)
    problems = [f"unknown {row[0]}" for row in rows if row[0] not in KEYWORDS or len(row) < 2]
    if problems:
        return problems
    bases = [rest.split()[0] for keyword, rest in rows if keyword == "FROM"]
    stages = {rest.split()[2] for keyword, rest in rows if keyword == "FROM" and " AS " in rest}
    problems += [f"base {base} is not pinned" for base in bases if not PINNED.fullmatch(base)]
    start = max(index for index, row in enumerate(rows) if row[0] == "FROM")
    last = dict(rows[start:])
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", last.get("USER", "")):
        problems.append("the user is root, or has a name that an orchestrator cannot check")
    problems += [f"no {keyword}" for keyword in ("HEALTHCHECK", "ENTRYPOINT", "CMD", "USER") if keyword not in last]
    problems += copies(rows, stages)
    problems += [f"a secret in {keyword}" for keyword, rest in rows if SECRET.search(rest)]
    for _, rest in (row for row in rows if row[0] == "RUN"):
        for command in rest.split("&&"):
            words = shlex.split(command)
            if "install" in words[:3] and words[0].endswith("pip") and not {"--no-cache-dir", "--constraint"} <= set(words):
                problems.append("pip without constraints, or with a cache")
    entry, command = json.loads(last.get("ENTRYPOINT", "[]")), json.loads(last.get("CMD", "[]"))
    if entry != ["voxelry", "serve"]:
        problems.append("the entry is another")
    return problems + problems_of_command(command)


def problems_of_command(command):
    try:
        options = served(command)
        for model in options["models"]:
            find_model(str(model))
    except Exception as error:  # noqa: BLE001 - whatever the parser or the zoo says is the problem
        return [f"{command}: {error}"]
    return [] if options["host"] == "0.0.0.0" and options["jobs"] is not None else ["nobody reaches it, or its jobs are lost"]


def copies(rows, stages):
    """Sources of COPY that are not there, or that the context leaves out."""
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    problems = []
    for keyword, rest in rows:
        if keyword not in ("COPY", "ADD"):
            continue
        words = rest.split()
        if keyword == "ADD":
            problems.append("ADD unpacks and fetches; use COPY")
        elif words[0].startswith("--from="):
            problems += [] if words[0].removeprefix("--from=") in stages else [f"no stage {words[0]}"]
        else:
            problems += [f"COPY {name}" for name in words[:-1] if not (ROOT / name).exists() or name not in shown]
    return problems


def test_the_dockerfile_is_sound():
    assert problems_of_dockerfile(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("FROM python:3.11.11-slim-bookworm\n", "FROM python:latest\n"), ("FROM python:3.11.11", "FROM python:3"),
     ("USER 10001:10001\n", ""), ("USER 10001:10001", "USER root"), ("HEALTHCHECK", "# HEALTHCHECK"), ("RUN", "RUNS"),
     ("COPY src", "COPY sources"), ("COPY src", "COPY tests"), ("--from=build", "--from=builder"), ('"--jobs"', '"--job"'),
     ('"nuclei"', '"nucleus"'), ('"0.0.0.0"', '"127.0.0.1"'), (" --constraint constraints.txt '", " '"),
     ("ENV PATH", "ENV VOXELRY_TOKEN=abcdefghijklmnop PATH"), ("COPY src", "ADD src"), ('"serve"', '"server"')],
)  # fmt: skip
def test_a_fault_of_the_dockerfile_is_seen(old, new):
    assert old in DOCKERFILE
    assert problems_of_dockerfile(DOCKERFILE.replace(old, new)) != []


def problems_of_compose(text, folder):
    """What `docker compose config` and a careful reader would say."""
    content = yaml.safe_load(text)
    problems = [f"unknown {key}" for key in set(content) - {"name", "services", "configs", "networks", "volumes"}]
    problems += ["a secret"] if SECRET.search(text) else []
    services = content["services"]
    for name, service in services.items():
        problems += [f"{name}: unknown {key}" for key in set(service) - SERVICE_KEYS]
        if "build" not in service and not PINNED.fullmatch(service["image"]):
            problems.append(f"{name}: {service['image']} is not pinned")
        problems += [f"{name}: port {port} is open to all" for port in service["ports"] if not str(port).startswith("127.0.0.1:")]
        volumes = [entry.partition(":")[0] for entry in service["volumes"]]
        problems += [f"{name}: no volume {volume}" for volume in volumes if volume not in content["volumes"]]
        problems += [f"{name}: no network {each}" for each in service["networks"] if each not in content["networks"]]
        problems += [f"{name}: waits for {each}" for each in service.get("depends_on", ()) if each not in services]
        problems += [f"{name}: {key} is no text" for key, value in service["environment"].items() if not isinstance(value, str)]
        problems += [] if "no-new-privileges:true" in service["security_opt"] else [f"{name}: may gain rights"]
    server = services["voxelry"]
    problems += problems_of_command(server["command"])
    problems += [] if server.get("read_only") and server.get("cap_drop") == ["ALL"] else ["the server may do more than it needs"]
    used = {name for name in ("TORCH_INDEX",) if name in server["build"]["args"]}
    problems += (
        [] if used <= {rest.partition("=")[0] for key, rest in instructions(DOCKERFILE) if key == "ARG"} else ["no such ARG"]
    )
    return problems or problems_of_node(content, folder)


def problems_of_node(content, folder):
    """What the server itself would say of its node, and whether the archive and the node know each other."""
    server, archive = content["services"]["voxelry"], content["services"]["orthanc"]["environment"]
    options = served(server["command"])
    (mount,) = server["configs"]
    file = folder / "node.yaml"
    file.write_text(content["configs"][mount["source"]]["content"])
    try:
        node = read_node_settings(file, tuple(str(model) for model in options["models"]))
    except Exception as error:  # noqa: BLE001 - as above
        return [str(error)]
    problems = [] if str(options["dicom"]) == mount["target"] else ["the node's file lies elsewhere"]
    title, host, port = json.loads(archive["ORTHANC__DICOM_MODALITIES"])["voxelry"]
    problems += [] if (title, host, port) == (node.ae_title, "voxelry", node.port) else ["the archive calls another node"]
    subnet = content["networks"]["imaging"]["ipam"]["config"][0]["subnet"]
    callers = [(each.ae_title, each.address) for each in node.callers]
    problems += [] if callers == [(archive["ORTHANC__DICOM_AET"], subnet)] else ["the archive may not call"]
    for route in node.routes:
        place = parse_address(route.to)
        problems += [] if (place.host, place.ae_title) == ("orthanc", archive["ORTHANC__DICOM_AET"]) else ["results go elsewhere"]
    for address in options["dicomweb"]:
        problems += [] if isinstance(parse_address(address), WebAddress) and "//orthanc:" in address else ["another archive"]
    return problems


def test_compose_is_sound(tmp_path):
    assert problems_of_compose(COMPOSE, tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("- 127.0.0.1:8000:8000", "- 8000:8000"), ("orthanc:24.12.0", "orthanc"), ("- hippocampus", "- hippo"),
     ("--dicomweb=", "--dicom-web="), ("model: hippocampus", "model: liver"), ("- jobs:/", "- job:/"), ("read_only", "readonly"),
     ('["VOXELRY", "voxelry", 11112]', '["VOXELRY", "voxelry", 104]'), ("networks: [imaging]", "networks: [image]"),
     ("address: 172.28.0.0/24", "address: 172.29.0.0/24"), ("dicom://ORTHANC@orthanc:4242", "dicom://ARCHIVE@archive:4242"),
     ("${VOXELRY_TOKEN:?Make", "abcdefghijklmnop # "), ("depends_on: [orthanc]", "depends_on: [archive]"), ('"false"', "false"),
     ("no-new-privileges:true", "seccomp:unconfined"), ("--jobs=/var/lib/voxelry/jobs", "--keep=1"), ("ae_title: V", "title: V")],
)  # fmt: skip
def test_a_fault_of_compose_is_seen(old, new, tmp_path):
    assert old in COMPOSE
    assert problems_of_compose(COMPOSE.replace(old, new), tmp_path) != []


def test_what_is_mounted_can_be_written_and_nothing_else():
    server = yaml.safe_load(COMPOSE)["services"]["voxelry"]
    places = [entry.partition(":")[2] for entry in server["volumes"]] + server["tmpfs"]
    jobs = str(served(server["command"])["jobs"])
    assert any(jobs.startswith(place + "/") for place in places)
    assert {rest for key, rest in instructions(DOCKERFILE) if key == "VOLUME"} == {"/var/lib/voxelry"} <= set(places)
