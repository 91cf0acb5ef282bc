"""Masks and images written for others to open: NIfTI, DICOM SEG, PNG."""
