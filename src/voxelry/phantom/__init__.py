"""Synthetic scans of procedural anatomy with exact references, written as DICOM, NIfTI or PNG."""
