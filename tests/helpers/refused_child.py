"""Segments a file of 10 GB, most of it a hole, within a budget, and says what memory that took; run by `test_memory.py`."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from helpers.plans import tiny_model, tiny_network, tiny_plan
from helpers.segment_child import NETWORK, status
from voxelry.cohort.batch import segment_scans
from voxelry.cohort.scan_names import Scan
from voxelry.core.labels import LabelTable
from voxelry.inference.predict_options import PredictOptions
from voxelry.inference.predictor import Predictor


def main(path, memory):
    shape = (2000, 2000, 1250)
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_sform(np.eye(4), 1)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 2 * int(np.prod(shape)))
    model = tiny_model(tiny_plan(network=tiny_network(3, name=NETWORK)), LabelTable.numbered([1]))
    predictor = Predictor(model, "cpu", PredictOptions(memory=memory))
    base = status("VmRSS")
    [outcome] = segment_scans(predictor, [Scan("a", (path,))], path.parent / "out", ["nifti"])
    sys.stdout.write(json.dumps({"error": outcome.error, "base": base, "peak": status("VmHWM")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
