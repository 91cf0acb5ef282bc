from .acquisition import Acquisition as Acquisition
from .dataset import write_phantoms as write_phantoms
from .dated import dated_phantoms as dated_phantoms
from .phantom import Phantom as Phantom
from .phantom import coarse_acquisition as coarse_acquisition
from .phantom import make_phantom as make_phantom
from .phantom import small_phantom as small_phantom
