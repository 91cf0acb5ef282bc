# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Export to the clinic
#
# One mask as DICOM SEG (for viewers and archives), RTSTRUCT (for planning), SR (measurements), a picture series, and
# a mesh. Each refers to the scan it came from, and is read back to see that nothing moved.
#
# **Your own data**: put the folder of a DICOM series where `series` is and a mask, of a model or by hand, where
# `labels` is. Research use, not a medical device: nothing here is cleared for diagnosis or treatment.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import dcmread

import voxelry as vx
from voxelry.datasets import load_manifest
from voxelry.phantom import write_phantoms
from voxelry.phantom.phantom import ACQUISITIONS

work = Path(tempfile.mkdtemp(prefix="voxelry-export-"))
coarse = replace(ACQUISITIONS["torso-ct"], spacing=(5.0, 5.0, 6.0))
manifest = write_phantoms(work / "data", "torso-ct", 1, acquisition=coarse)
series = work / "data" / "images" / "torso_000"
scan = vx.read(series)
labels = vx.read_labels(work / "data" / "labels" / "torso_000.nii.gz", load_manifest(manifest).card.table)
assert labels.geometry.same_grid(scan.geometry)
vx.plot.contours(scan, labels, title="the mask to export")

# %% [markdown]
# ## DICOM SEG
#
# A segment for each label, with coded anatomy, on the scan's own slices.

# %%
seg = vx.write(labels, work / "mask.seg.dcm", source=scan)
dataset = dcmread(seg)
for segment in dataset.SegmentSequence:
    code = segment.SegmentedPropertyTypeCodeSequence[0]
    print(segment.SegmentNumber, segment.SegmentLabel, "-", code.CodeMeaning, code.CodingSchemeDesignator, code.CodeValue)

# %%
back = vx.read_labels(seg, labels.table).on_grid(labels.geometry)  # re-indexed where axes differ, never resampled
assert np.array_equal(back.array, labels.array)

# %% [markdown]
# ## RTSTRUCT
#
# Contours in the planes of the scan. Outlines run along voxel edges, so that the mask comes back voxel for voxel.

# %%
rtstruct = vx.write(labels, work / "mask.rtstruct.dcm", source=scan)
contours = vx.read_labels(rtstruct, labels.table, reference=scan).on_grid(labels.geometry)
assert np.array_equal(contours.array, labels.array)
[roi.ROIName for roi in dcmread(rtstruct).StructureSetROISequence]

# %% [markdown]
# ## Measurements as SR
#
# TID 1500: volume and diameters of each label, with units and codes. It refers to the segments of the SEG.

# %%
report = vx.convert(seg, work / "mask.sr.dcm", reference=series, options={"segmentation": str(seg)})
dcmread(report.path).ContentSequence[-1].ConceptNameCodeSequence[0].CodeMeaning

# %% [markdown]
# ## Other forms
#
# `convert` does the same for files, on the command line too: `voxelry convert mask.seg.dcm mask.stl`.

# %%
for name in ("mask.seg.nrrd", "mask.stl", "mask.objects.csv"):
    converted = vx.convert(seg, work / name, reference=series)
    print(converted.format, *converted.remarks, sep="\n    ")

# %% [markdown]
# ## What a format cannot hold
#
# It is refused by name rather than left out in silence: MetaImage has no names of labels, an SR needs the scan.

# %%
try:
    vx.write(labels, work / "alone.seg.dcm")
except vx.VoxelryError as error:
    print(error)
