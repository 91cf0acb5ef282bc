from .deidentifier import Deidentifier as Deidentifier
from .pixel_risks import pixel_risks as pixel_risks
from .pseudonyms import KeyedPseudonyms as KeyedPseudonyms
