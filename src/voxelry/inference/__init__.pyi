from .cleanup import clean as clean
from .predict_options import PredictOptions as PredictOptions
from .predictor import Prediction as Prediction
from .predictor import Predictor as Predictor
from .slice_writer import restore_logits as restore_logits
