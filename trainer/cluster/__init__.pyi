from .connection import connected as connected
from .filling import Encoding as Encoding
from .filling import fill_on_ray as fill_on_ray
from .models import features_of as features_of
from .models import inputs_of as inputs_of
