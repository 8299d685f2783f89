"""The walk: one function a stage, plain data and folders in, plain data out.

Importing it imports neither torch nor SpeechBrain, which take seconds: an input error comes at once.
Stage 6 stands in `bdlib.stages.defend`.
"""

from bdlib.stages.measure import measure
from bdlib.stages.poison import poison
from bdlib.stages.prepare import prepare
from bdlib.stages.record import record
from bdlib.stages.score import score
from bdlib.stages.train import train

__all__ = ["measure", "poison", "prepare", "record", "score", "train"]
