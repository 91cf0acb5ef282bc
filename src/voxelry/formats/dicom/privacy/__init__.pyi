from .deidentifier import Deidentifier as Deidentifier
from .identifying_pixels import pixel_risks as pixel_risks
from .pseudonyms import KeyedPseudonyms as KeyedPseudonyms
