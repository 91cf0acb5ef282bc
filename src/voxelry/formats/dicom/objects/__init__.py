"""DICOM objects derived from a scan: segmentations, structure sets, reports, meshes."""
