from .normalisation import normalise as normalise
from .preparation import Preparation as Preparation
from .preparation import prepare as prepare
from .resampling import resample_classes as resample_classes
from .resampling import resample_image as resample_image
