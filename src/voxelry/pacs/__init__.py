"""DICOM archives (PACS): queried, and their instances retrieved and stored, by DICOMweb and by DIMSE."""
