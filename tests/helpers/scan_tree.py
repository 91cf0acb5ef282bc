"""A tree of scans of several kinds, and what reading each of them gives."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np

from helpers.dicom_files import dataset, save, series
from voxelry.cohort.fetched_scan import FetchedScan
from voxelry.cohort.scan_names import Scan
from voxelry.datasets.channels import read_channels

UID = "1.2.826.0.1.3680043.8.498."


def stack(folder: Path, number: int, value: int) -> None:
    """A DICOM series of three slices with one value."""
    values = np.full((3, 6, 8), value, np.int16)
    for index, data in enumerate(series(values, SeriesInstanceUID=f"{UID}{number}", SeriesNumber=number)):
        save(data, folder / f"IM{number}{index}")


def nifti(path: Path, value: int) -> None:
    """A NIfTI file, of two files where it is called .hdr, with one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = nibabel.AnalyzeImage if path.suffix == ".hdr" else nibabel.Nifti1Image
    kind(np.full((3, 4, 5), value, np.int16), np.eye(4)).to_filename(path)


def scan_tree(root: Path) -> Path:
    """A tree with series, single files, a two-file image, a mask, a localizer, documents and hidden files."""
    stack(root / "PAT1" / "SER1", 1, 11)
    stack(root / "PAT1" / "SER2", 2, 12)
    stack(root / "PAT1" / "SER2", 3, 13)
    scout = dataset(np.zeros((6, 8), np.int16), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID=f"{UID}9")
    save(scout, root / "PAT1" / "SER2" / "scout")
    nifti(root / "PAT2" / "brain.nii.gz", 21)
    nifti(root / "PAT2" / "brain_seg.nii.gz", 1)
    nifti(root / "PAT2" / "old.hdr", 22)
    (root / "PAT2" / "notes.txt").write_text("words")
    (root / "PAT2" / ".hidden.nii.gz").write_bytes(b"")
    return root


def found(scans: Sequence[Scan]) -> Mapping[str, int]:
    """Each scan by its id, with its first voxel, fetched and read."""
    voxels = {}
    for scan in scans:
        with FetchedScan(scan) as local:
            voxels[scan.id] = int(read_channels(local.images, series=local.series).array[0, 0, 0, 0])
    return voxels


EXPECTED = {"SER1": 11, "SER2_2": 12, "SER2_3": 13, "brain": 21, "old": 22}
