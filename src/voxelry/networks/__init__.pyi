from .build import build_network as build_network
from .build import count_parameters as count_parameters
from .cost import network_cost as network_cost
from .shape_inference import infer_shapes as infer_shapes
from .weights import half_precision as half_precision
from .weights import load_models as load_models
from .weights import save_model as save_model
