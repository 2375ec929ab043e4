from .hub import push_dataset as push_dataset
from .hub import push_model as push_model
from .plot import plot_runs as plot_runs
from .sheet import MAX_TILES as MAX_TILES
from .sheet import Tile as Tile
from .sheet import check_sheet_path as check_sheet_path
from .sheet import draw_sheet as draw_sheet
from .sheet import write_sheet as write_sheet
