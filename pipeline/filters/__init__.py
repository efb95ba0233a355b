"""Filter families. Importing this package registers the built-in ones."""

from pipeline.filters import dog as dog
from pipeline.filters import gabor as gabor
from pipeline.filters import gaussian as gaussian
from pipeline.filters import gradient as gradient
from pipeline.filters import identity as identity
from pipeline.filters import kernel as kernel
from pipeline.filters import laplacian as laplacian
from pipeline.filters import laws as laws
from pipeline.filters import log as log
from pipeline.filters import mean as mean
from pipeline.filters import random as random
