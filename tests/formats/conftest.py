"""Fixtures that make small DICOM files: the reader is tested against what was written, and against SimpleITK."""

from helpers.dicom_files import folder, make_series, make_slice, plain, ramp, save_slice, xray

__all__ = ["folder", "make_series", "make_slice", "plain", "ramp", "save_slice", "xray"]
