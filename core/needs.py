"""What a method can ask of a network. Imports nothing, so that every room may read it."""

from enum import Enum


class Need(Enum):
    """What a method rests on; the value is the phrase shown where it is missing."""

    GRADIENTS = "gradients of the class score with respect to the input"
    SPATIAL_FEATURES = "a feature map with positions that the class score depends on"
    POOLED_LINEAR_HEAD = "a head that averages the feature map and applies one linear layer"

    @property
    def badge(self) -> str:
        """The same in a few words."""
        return f"needs {_SHORT[self]}"


_SHORT = {
    Need.GRADIENTS: "gradients",
    Need.SPATIAL_FEATURES: "a feature map",
    Need.POOLED_LINEAR_HEAD: "an averaging head",
}
