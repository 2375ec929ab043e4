from .search import SweepResult as SweepResult
from .search import resume_sweep as resume_sweep
from .search import run_sweep as run_sweep
from .search_space import Space as Space
from .standings import Standing as Standing
from .sweep_settings import SweepSettings as SweepSettings
