from .model_check import check_model as check_model
from .model_names import find_model as find_model
from .model_names import named_models as named_models
from .model_row import list_models as list_models
from .model_travel import pull_model as pull_model
from .model_travel import push_model as push_model
