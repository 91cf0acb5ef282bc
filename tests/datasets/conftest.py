"""Fixtures that make small DICOM series, for channels that lie in several of them."""

from helpers.dicom_files import folder, make_series, plain, ramp

__all__ = ["folder", "make_series", "plain", "ramp"]
