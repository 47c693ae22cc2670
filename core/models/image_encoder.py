"""A network of which only the vectors count: CLIP, DINO or any other, chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from whylens.core.datasets.tensors import to_tensor
from whylens.core.errors import BadArtifact
from whylens.core.inputs.photo import Pixels
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.checkpoints import checkpoint_folders
from whylens.core.models.labels import labels_of
from whylens.core.models.load import load, load_pretrained, timm_spec
from whylens.core.models.model_names import parse_model_name


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """A network that turns images into vectors.

    Attributes:
        name: Under which it was loaded.
        digest: sha256 of its weights.
        input_spec: What it wants to be fed.
        embed: (N, 3, H, W) inputs to (N, D) vectors.
    """

    name: str
    digest: str
    input_spec: InputSpec
    embed: Callable[[Tensor], Tensor]

    def encode(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Return (N, D) vectors of N images, (H, W, 3) uint8 each."""
        with torch.no_grad():
            x = torch.cat([to_tensor(image, self.input_spec) for image in images])
            vectors: npt.NDArray[np.float32] = self.embed(x).flatten(1).float().cpu().numpy()
        return vectors


def load_encoder(name: str) -> ImageEncoder:
    """Return the network of this name as an encoder.

    The vector of a classifier is what its last linear layer reads; a CLIP tower keeps its
    projection, the space in which it was trained to compare.

    Args:
        name: A timm name, `torchvision:NAME`, `untrained:NAME` or a local checkpoint's name.

    Raises:
        UnknownName: Nothing has this name.
        WeightsUnavailable: Its weights cannot be had.
        BadArtifact: Its files are damaged, or it takes no images.
        NeedsNotMet: It gives no vectors.
    """
    if parse_model_name(name, checkpoint_folders()).kind != "timm":
        backbone = load(name)
        embed, digest, input_spec = (
            backbone.embedder.embed,
            backbone.identity.digest,
            backbone.input_spec,
        )
    else:
        module, identity = load_pretrained(name)
        digest, input_spec = identity.digest, timm_spec(module)
        if labels_of(module):
            module.reset_classifier(0)
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        embed = module
    if len(input_spec.size) != 2:
        raise BadArtifact(f"{name} takes no images, so it cannot compare them. Choose another.")
    return ImageEncoder(name, digest, input_spec, embed)
