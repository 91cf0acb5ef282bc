from .rtstruct_write import write_rtstruct as write_rtstruct
from .seg_write import write_dicom_seg as write_dicom_seg
from .seg_write import write_fractional_seg as write_fractional_seg
from .segment_descriptions import Algorithm as Algorithm
from .sr_write import write_dicom_sr as write_dicom_sr
