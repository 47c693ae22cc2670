"""What a method can ask of a network. Imports nothing, so that every room may read it."""

from enum import Enum


class Need(Enum):
    """What a method rests on; the value is the phrase shown where it is missing."""

    GRADIENTS = "gradients of the class score with respect to the input"
    SPATIAL_FEATURES = "a feature map with positions that the class score depends on"
    POOLED_LINEAR_HEAD = "a head that averages the feature map and applies one linear layer"
