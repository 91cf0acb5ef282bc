"""Claim: 500 series pushed to the DICOM node by 4 associations at once, slices interleaved: 500 SEGs come back, each on its own.

    python benchmarks/dicom_node.py [--series 500] [--slices 4] [--associations 4]

Series are copies of a small phantom under UIDs of their own; the model is untrained. The senders are another process. An
archive in this process takes the SEGs. Each must refer to instances of one pushed series alone, of which it has patient, study
and frame of reference, and each series must come back once. Printed: seconds, and the resident memory over time.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pynetdicom
import torch
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import voxelry
from voxelry.core.model import Model, ModelCard
from voxelry.networks.build import build_network
from voxelry.networks.weights import save_model
from voxelry.phantom.acquisition import Acquisition
from voxelry.phantom.dicom import write_dicom
from voxelry.phantom.phantom import make_phantom
from voxelry.planning.fingerprint import make_fingerprint
from voxelry.planning.planner import make_plan
from voxelry.recipes.settings import PlanSettings
from voxelry.serving.access_tokens import AccessTokens
from voxelry.serving.application import Application
from voxelry.serving.node_settings import NodeSettings
from voxelry.serving.serve_limits import ServeLimits
from voxelry.serving.served_archives import ServedArchives
from voxelry.serving.served_model import load_served
from voxelry.serving.server import ModelServer

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SECONDS = 3600


def write_copies(original: Path, folder: Path, series: int, slices: int) -> dict[str, dict[str, str]]:
    """SeriesInstanceUID -> patient, study and frame of reference of the copies written."""
    facts = {}
    data = [dcmread(file) for file in sorted(original.iterdir())[:slices]]
    folder.mkdir()
    for number in range(series):
        study, uid, frame = f"2.25.{number + 1}.1", f"2.25.{number + 1}.2", str(generate_uid())
        facts[uid] = {"PatientID": f"P{number}", "StudyInstanceUID": study, "FrameOfReferenceUID": frame}
        for index, each in enumerate(data):
            each.SeriesInstanceUID = uid
            for name, value in facts[uid].items():
                setattr(each, name, value)
            each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{index + 1}"
            each.save_as(folder / f"{number:04d}-{index}.dcm", enforce_file_format=True)
    return facts


def push(port: int, files: list[Path], associations: int, results) -> None:
    """Send files in random order by several associations at once; how often each status came goes to `results`."""
    random.Random(0).shuffle(files)
    counts, lock = Counter(), threading.Lock()

    def send(share: list[Path]) -> None:
        entity = pynetdicom.AE("SENDER")
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", port, ae_title="NODE")
        for file in share:
            status = association.send_c_store(file).get("Status", -1)
            with lock:
                counts[status] += 1
        association.release()

    threads = [threading.Thread(target=send, args=(files[number::associations],)) for number in range(associations)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(dict(counts))


def tiny_model(scan, table, folder: Path) -> Path:
    """The folder of an untrained model of one stage."""
    fingerprint = make_fingerprint([lambda: (scan, None)], ("CT",), scan.modality, table)
    plan = make_plan(fingerprint, PlanSettings(features=(4, 8)))
    torch.manual_seed(0)
    weights = {name: weight.detach() for name, weight in build_network(plan, classes=len(table) + 1).named_parameters()}
    return save_model(
        Model(plan, ModelCard(name="tiny", version="0", labels=table, fingerprint=fingerprint), weights), folder
    ).path


def main() -> int:
    """Push, wait, check; 1 where the claim does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--associations", type=int, default=4)
    given = parser.parse_args()
    received, arrived = [], threading.Semaphore(0)

    def take(event) -> int:
        received.append(dcmread(event.dataset_path, stop_before_pixels=True))
        arrived.release()
        return 0

    archive = pynetdicom.AE("PACS")
    archive.add_supported_context(SEG)
    store = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, take)])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        phantom = make_phantom("torso-ct", 0, Acquisition((20, 20, 48), (320, 240, 288), "LPS"))
        [original] = write_dicom(phantom, folder / "original")
        facts = write_copies(original, folder / "push", given.series, given.slices)
        scan = voxelry.read(original)
        models = load_served([tiny_model(scan, phantom.labels.table, folder / "tiny")], "cpu")
        settings = NodeSettings(
            ae_title="NODE",
            port=0,
            quiet=2.0,
            callers=[{"ae_title": "SENDER", "address": "127.0.0.1"}],
            routes=[{"modality": "CT", "model": "tiny", "to": f"dicom://PACS@127.0.0.1:{store.server_address[1]}"}],
        )
        limits = ServeLimits()
        application = Application(models, folder / "jobs", limits, ServedArchives(settings))
        listening = threading.Event()
        server = ModelServer(application, "127.0.0.1", 0, AccessTokens(), limits, lambda _: listening.set())
        thread = threading.Thread(target=server.run)
        thread.start()
        listening.wait()
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        files = sorted((folder / "push").iterdir())
        sender = context.Process(target=push, args=(application.node.port, files, given.associations, results))
        began = time.monotonic()
        sender.start()
        memory, own = [], psutil.Process()
        statuses = results.get()
        pushed = time.monotonic() - began
        for number in range(given.series):
            if not arrived.acquire(timeout=SECONDS):
                break
            if number % max(1, given.series // 10) == 0:
                memory.append(own.memory_info().rss / 2**20)
        seconds = time.monotonic() - began
        time.sleep(2)  # for one that comes twice
        sender.join()
        server.handle_exit(15, None)
        thread.join()
        store.shutdown()
    back = Counter(str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID) for seg in received)
    wrong = [seg for seg in received if not fits(seg, facts)]
    print(f"pushed {len(files)} slices of {given.series} series in {pushed:.1f} s, statuses {statuses}")
    print(f"{len(received)} SEGs of {len(back)} series in {seconds:.1f} s, {len(wrong)} on a wrong series")
    print("resident MiB over time:", " ".join(f"{value:.0f}" for value in memory))
    holds = statuses == {0: len(files)} and back == dict.fromkeys(facts, 1) and not wrong
    verdict = "holds" if holds else "REFUTED"
    print(f"voxelry {voxelry.__version__}, {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}: {verdict}")
    return 0 if holds else 1


def fits(seg, facts: dict[str, dict[str, str]]) -> bool:
    """A SEG names one series, only instances of it, and its patient, study and frame of reference."""
    if len(seg.ReferencedSeriesSequence) != 1:
        return False
    series = seg.ReferencedSeriesSequence[0]
    uid = str(series.SeriesInstanceUID)
    instances = [str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence]
    inside = all(instance.startswith(f"{uid}.") for instance in instances)
    return bool(instances) and inside and all(str(seg.get(name)) == value for name, value in facts.get(uid, {"": "-"}).items())


if __name__ == "__main__":
    sys.exit(main())
