"""Segments a made-up CT in a process of its own and says what memory it took; run by `test_memory.py`."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from plans import tiny_model, tiny_plan
from voxelry.geometry import Geometry
from voxelry.labels import LabelTable
from voxelry.predict.options import PredictOptions
from voxelry.predict.predictor import Predictor
from voxelry.volume import Volume


class Pointwise(nn.Module):
    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(1, classes, 1)

    def forward(self, x):
        return [self.layer(x)]


def status(name):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main(size, slices, classes, patch, memory):
    plan = tiny_plan(patch_size=patch, spacing=(1.5, 1.5, 1.5))
    options = PredictOptions(memory=memory or None, step=1.0)
    predictor = Predictor(tiny_model(plan, LabelTable.numbered(range(1, classes))), "cpu", options)
    predictor.networks[:] = [Pointwise(classes)]
    array = np.empty((1, size, size, slices), np.int16)
    for part in np.moveaxis(array, 3, 0):
        part[:] = np.random.default_rng(0).integers(-1000, 1000, (1, size, size), np.int16)
    scan = Volume(array, Geometry.from_spacing((size, size, slices), (0.8, 0.8, 1.0)))
    base = status("VmRSS")
    labels = predictor.predict(scan).labels.array
    known = array.nbytes + labels.nbytes
    sys.stdout.write(
        json.dumps({"peak": status("VmHWM"), "base": base, "scan and labels": known, "found": int(np.unique(labels).size)})
    )


if __name__ == "__main__":
    size, slices, classes, memory, *patch = (int(text) for text in sys.argv[1:])
    main(size, slices, classes, tuple(patch), memory)
