from .comparison import Difference as Difference
from .comparison import compare_scores as compare_scores
from .evaluation import summarise as summarise
from .evaluation import write_scores as write_scores
from .statistics import bootstrap as bootstrap
from .statistics import holm as holm
from .statistics import permutation_test as permutation_test
from .statistics import wilcoxon_test as wilcoxon_test
