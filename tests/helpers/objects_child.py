"""Tells the objects of a made-up scan apart in a process of its own and says what memory it took; run by `test_memory.py`."""

import json
import sys
from pathlib import Path

from helpers.instance_fields import ellipsoids, pointwise_model, pointwise_scan
from helpers.plans import tiny_network
from voxelry.errors import BudgetError
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor


def status(name):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main(size, patch, memory):
    options = PredictOptions(memory=memory, overlap=0.0, mixed_precision="off")
    network = tiny_network(3, name="helpers.instance_fields:Pointwise")  # MONAI's networks take seconds to import
    predictor = Predictor(pointwise_model(patch_size=(patch,) * 3, network=network), "cpu", options)
    scan = pointwise_scan(ellipsoids((size,) * 3, size // 2, (size / 25, size / 10)))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    base = status("VmRSS")
    try:
        labels = predictor.predict(scan).labels
    except BudgetError as error:
        sys.stdout.write(json.dumps({"needed": error.needed}))
        return
    sys.stdout.write(json.dumps({"peak": status("VmHWM"), "base": base, "objects": int(labels.instances.max())}))


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]))
