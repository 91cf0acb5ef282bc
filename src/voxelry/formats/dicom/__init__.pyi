from .dicom_reader import read_all_dicom as read_all_dicom
from .dicom_reader import read_dicom as read_dicom
from .header import DicomHeader as DicomHeader
from .planes import read_planes as read_planes
from .scan import HeaderScan as HeaderScan
from .scan import scan_headers as scan_headers
