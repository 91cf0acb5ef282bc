from .recipe import Config as Config
from .recipe import changed as changed
from .recipe import load_config as load_config
from .settings import LossSettings as LossSettings
from .settings import OptimiserSettings as OptimiserSettings
from .settings import PlanSettings as PlanSettings
