"""Formats of one header and one grid of numbers: NIfTI, Analyze, MGH, NRRD, MetaImage."""
