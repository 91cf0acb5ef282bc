"""The data of cases that lie beside the page of a run."""

import base64
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from voxelry.reports.run_report import data_folder


def page_cases(page: Path) -> dict[str, dict]:
    """The data of each case that can be looked at, by its id."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(data_folder(page).iterdir())]
    cases = [json.loads(text.partition(", ")[2].removesuffix(");")) for text in texts]
    return {case["id"]: case for case in cases}


def voxels(text: str) -> np.ndarray:
    """The voxels of a NIfTI file in base64."""
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text))).dataobj)
