from .fingerprint import make_fingerprint as make_fingerprint
from .plan_file import load_plan as load_plan
from .plan_file import plan_text as plan_text
from .plan_file import save_plan as save_plan
from .planner import configurations as configurations
from .planner import make_plan as make_plan
