"""`filterbank learn`: a bank of filters from patches of the user's own images."""

from pipeline.learn.bank import Learned, learn
from pipeline.learn.cut import Cut, cut
from pipeline.learn.draw import Draw, draw
from pipeline.learn.methods import ITERATIONS

__all__ = ["ITERATIONS", "Cut", "Draw", "Learned", "cut", "draw", "learn"]
