from .groups import PlaneGroup as PlaneGroup
from .groups import group_planes as group_planes
from .layout import StackLayout as StackLayout
from .layout import measure_layout as measure_layout
from .select import select_group as select_group
from .stack import SliceStack as SliceStack
from .stack import assemble as assemble
