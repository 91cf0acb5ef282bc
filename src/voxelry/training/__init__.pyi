from .folds import Folds as Folds
from .folds import load_folds as load_folds
from .folds import make_folds as make_folds
from .loss import make_loss as make_loss
from .options import RunOptions as RunOptions
from .run import train_model as train_model
