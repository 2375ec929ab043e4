from .search import SweepResult as SweepResult
from .search import resume_sweep as resume_sweep
from .search import run_sweep as run_sweep
from .search_space import Space as Space
from .search_space import SweepSettings as SweepSettings
from .standings import Standing as Standing
