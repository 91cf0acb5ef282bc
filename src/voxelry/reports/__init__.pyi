from .overlay import overlay_png as overlay_png
from .page import CaseView as CaseView
from .page import write_page as write_page
from .tables import comparison_table as comparison_table
from .tables import paper_table as paper_table
from .tables import score_table as score_table
