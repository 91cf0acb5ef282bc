from .monai_reader import VoxelryReader as VoxelryReader
from .monai_transforms import CropContentd as CropContentd
from .monai_transforms import NormaliseGreyd as NormaliseGreyd
from .monai_transforms import PrepareByPland as PrepareByPland
from .monai_transforms import ResampleSpacingd as ResampleSpacingd
