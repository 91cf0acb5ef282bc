"""Reading scans: DICOM series, X-rays, NIfTI and pictures become Volumes and LabelMaps. Needs neither torch nor monai."""
