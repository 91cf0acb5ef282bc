"""DICOM: from files, archives and DICOMDIRs to headers, planes and volumes."""
