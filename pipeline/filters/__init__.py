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
from pipeline.filters import motion as motion
from pipeline.filters import random as random
from pipeline.filters import rfs as rfs
from pipeline.filters import riesz as riesz
from pipeline.filters import roberts as roberts
from pipeline.filters import robinson as robinson
from pipeline.filters import sato as sato
from pipeline.filters import scharr as scharr
from pipeline.filters import schmid as schmid
from pipeline.filters import simoncelli as simoncelli
from pipeline.filters import sobel as sobel
from pipeline.filters import stack as stack
from pipeline.filters import steerable as steerable
from pipeline.filters import structure_tensor as structure_tensor
from pipeline.filters import unsharp as unsharp
from pipeline.filters import wavelet as wavelet
