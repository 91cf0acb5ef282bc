from .augment_settings import AugmentSettings as AugmentSettings
from .augmentation import AugmentationParams as AugmentationParams
from .augmentation import IntensityAugmentation as IntensityAugmentation
from .augmentation import SpatialAugmentation as SpatialAugmentation
from .augmenter import Augmenter as Augmenter
