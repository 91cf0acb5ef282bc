"""Segments a made-up CT in a process of its own and says what memory it took; run by `test_memory.py`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from helpers.plans import tiny_model, tiny_network, tiny_plan
from voxelry.core.geometry import Geometry
from voxelry.core.labels import LabelTable
from voxelry.core.volume import Volume
from voxelry.errors import BudgetError
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor

NETWORK = "helpers.segment_child:Pointwise"
"""An import path, since importing MONAI's networks takes seconds in every process."""


class Pointwise(nn.Module):
    def __init__(self, spatial_dims, in_channels, out_channels):
        super().__init__()
        self.layer = (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(in_channels, out_channels, 1)

    def forward(self, x):
        return self.layer(x)


def status(name):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def models(kind, patch, table):
    """``one`` model, a ``mixed`` ensemble of patches and slices, or a ``cascade``."""
    plan = tiny_plan(patch_size=patch, spacing=(1.5, 1.5, 1.5), network=tiny_network(3, name=NETWORK))
    if kind == "cascade":
        second = plan.model_copy(update={"configuration": "3d_cascade"})
        return [replace(tiny_model(second, table), previous=tiny_model(plan, table))]
    flat = tiny_network(3, name=NETWORK, strides=((1, 1, 1), (2, 2, 1), (2, 2, 1)), kernels=((3, 3, 1),) * 3)
    slices = tiny_plan(
        configuration="2d", slice_axis=2, patch_size=(64, 64, 1), network=flat, spacing=(1.2, 1.2, None)
    )  # fmt: skip
    return [tiny_model(plan, table), *([tiny_model(slices, table)] if kind == "mixed" else [])]


def main(kind, size, slices, classes, patch, memory):
    options = PredictOptions(memory=memory or None, overlap=0.0)
    predictor = Predictor(models(kind, patch, LabelTable.numbered(range(1, classes))), "cpu", options)
    array = np.empty((1, size, size, slices), np.int16)
    for part in np.moveaxis(array, 3, 0):
        part[:] = np.random.default_rng(0).integers(-1000, 1000, (1, size, size), np.int16)
    scan = Volume(array, Geometry.from_spacing((size, size, slices), (0.8, 0.8, 1.0)))
    base = status("VmRSS")
    try:
        labels = predictor.predict(scan).labels.array
    except BudgetError as error:
        sys.stdout.write(json.dumps({"needed": error.needed}))
        return
    known = array.nbytes + labels.nbytes
    sys.stdout.write(
        json.dumps({"peak": status("VmHWM"), "base": base, "scan and labels": known, "found": int(np.unique(labels).size)})
    )


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:]
    size, slices, classes, memory, *patch = (int(text) for text in numbers)
    main(kind, size, slices, classes, tuple(patch), memory)
