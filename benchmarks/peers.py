"""The same networks and inputs for us and for the three libraries we are compared with.

The peers are pytorch-grad-cam, torchcam and captum. Every library gets a copy of its own: hooks of
one would slow down another.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whylens.core.inputs.photo import read_photo
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.inputs.spec import InputSpec
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.models.load import build
from whylens.core.models.random_weights import randomize_weights
from whylens.core.registry import Registry, load_registry
from whylens.core.results import Heatmap
from whylens.core.subject import Subject
from whylens.core.targets import Target

SEED = 7
NAMES = {
    "resnet50": "ResNet-50",
    "resnet18": "ResNet-18",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "vit_small_patch16_224": "ViT-S",
}


@dataclass
class Bench:
    """One network, one input, one class.

    Attributes:
        name: For titles.
        module: With random weights; never handed to a peer itself.
        size: Side of the input.
        layer: Returns the layer whose output is our feature map, given a copy of the module.
        prefix: Tokens before the patches, or None where the features are (N, K, H, W).
        photo: File in examples/photos.
    """

    name: str
    module: nn.Module
    size: int
    layer: Callable[[Any], nn.Module]
    registry: Registry
    prefix: int | None = None
    photo: str = "cat.jpg"

    @cached_property
    def backbone(self) -> Backbone:
        """Ours. Grey is 0 after normalisation, as the peers' baselines are."""
        input_spec = InputSpec(size=(self.size, self.size), mean=(0.5,) * 3, std=(0.25,) * 3)
        return wrap(self.module, input_spec=input_spec)

    @cached_property
    def x(self) -> Tensor:
        """(1, 3, H, W) a photo that comes with the project."""
        file = Path(__file__).resolve().parents[1] / "examples" / "photos" / self.photo
        return photo_tensor(read_photo(file.read_bytes()), self.backbone.input_spec)[0]

    @cached_property
    def target(self) -> int:
        """The predicted class."""
        with torch.no_grad():
            return int(self.module(self.x)[0].argmax())

    def subject(self, *, forward_pass: ForwardPass | None = None) -> Subject:
        """Return the question, with a forward pass of its own unless one is given."""
        return Subject(forward_pass or ForwardPass(self.backbone, self.x), Target(self.target))

    def heat(self, method: str, subject: Subject | None = None, **params: object) -> Heatmap:
        """Return our finished map.

        Args:
            subject: By default a new one, whose forward pass then counts.
            params: Parameters that differ from the defaults.
        """
        explainer = self.registry.explainer(method)
        parameters = explainer.Params.model_validate(params)
        answer = explainer.explain(subject or self.subject(), parameters)
        if not isinstance(answer, Heatmap):
            for partial in answer:
                answer = partial.result
        assert isinstance(answer, Heatmap)
        return answer

    def forward(self) -> None:
        """Run the network as its author wrote it, without gradients."""
        with torch.no_grad():
            self.module(self.x)

    def clone(self) -> nn.Module:
        """Return a copy of the network for one peer, with parameters as a user has them."""
        return copy.deepcopy(self.module).requires_grad_(True)

    def spatial(self, tokens: Tensor) -> Tensor:
        """Return (N, K, h, w) of tokens."""
        if self.prefix is None:
            return tokens
        patches = tokens[:, self.prefix :]
        side = int(patches.shape[1] ** 0.5)
        return patches.transpose(1, 2).unflatten(2, (side, side))


Map = Callable[[], np.ndarray]


def torchcam_map(bench: Bench, kind: str, **options: object) -> Map:
    """Return torchcam's map of one method: a forward pass, then the map.

    Args:
        kind: Class name in `torchcam.methods`.
    """
    from torchcam import methods

    model = bench.clone()
    if bench.prefix is not None:
        options["reshape_transform"] = bench.spatial
    extractor = getattr(methods, kind)(
        model, bench.layer(model), input_shape=(3, bench.size, bench.size), **options
    )
    gradients = kind not in ("CAM", "ScoreCAM")

    def run() -> np.ndarray:
        with torch.set_grad_enabled(gradients):
            scores = model(bench.x)
            (values,) = extractor(bench.target, scores, normalized=False)
        return values[0].detach().relu().numpy()

    return run


def grad_cam_map(bench: Bench, kind: str) -> Map:
    """Return pytorch-grad-cam's map, enlarged to the input as it does."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = bench.clone()
    reshape = None if bench.prefix is None else bench.spatial
    method = getattr(pytorch_grad_cam, kind)(model, [bench.layer(model)], reshape)

    def run() -> np.ndarray:
        return method(bench.x, [ClassifierOutputTarget(bench.target)])[0]

    return run


def captum_grad_cam(bench: Bench) -> Map:
    """Return captum's Grad-CAM."""
    from captum.attr import LayerGradCam

    model = bench.clone()
    method = LayerGradCam(model, bench.layer(model))

    def run() -> np.ndarray:
        values = method.attribute(bench.x, bench.target, relu_attributions=True)
        return values[0, 0].detach().numpy()

    return run


def captum_occlusion(bench: Bench, window: int, stride: int) -> Map:
    """Return captum's occlusion, 16 windows in one forward pass."""
    from captum.attr import Occlusion

    method = Occlusion(bench.clone())

    def run() -> np.ndarray:
        values = method.attribute(
            bench.x, (3, window, window), (3, stride, stride), 0.0, bench.target,
            perturbations_per_eval=16,
        )  # fmt: skip
        return values[0, 0].detach().numpy()

    return run


def captum_gradients(bench: Bench, steps: int, batch: int | None) -> Map:
    """Return captum's integrated gradients by the midpoint rule.

    Args:
        steps: Points on the path.
        batch: Its internal batch size; None, its default, takes all steps at once.
    """
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(bench.clone())

    def run() -> np.ndarray:
        values = method.attribute(
            bench.x, 0.0, bench.target, n_steps=steps, method="riemann_middle",
            internal_batch_size=batch,
        )  # fmt: skip
        return values[0].sum(0).detach().numpy()

    return run


def likeness(own_map: np.ndarray, peer_map: np.ndarray) -> float:
    """Return the correlation of two maps, both brought to the larger one's size."""
    size = tuple(max(a, b) for a, b in zip(own_map.shape, peer_map.shape, strict=True))

    def grown(values: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(np.array(values, dtype=np.float32))[None, None]
        return nn.functional.interpolate(tensor, size, mode="bilinear")[0, 0].numpy().ravel()

    return float(np.corrcoef(grown(own_map), grown(peer_map))[0, 1])


@cache
def _layer_before_head(architecture: str) -> Callable[[nn.Module], nn.Module]:
    if architecture.startswith("vit"):
        return lambda module: module.get_submodule("blocks")[-2]  # type: ignore[index]
    if architecture.startswith("efficientnet"):
        return lambda module: module.get_submodule("bn2")  # its activation is the last layer
    return lambda module: module.get_submodule("layer4")[-1]  # type: ignore[index]


def bench_of(architecture: str) -> Bench:
    """Return one of the three networks with random weights."""
    module = randomize_weights(build(architecture, classes=1000), seed=SEED).eval()
    token = architecture.startswith("vit")
    return Bench(
        NAMES.get(architecture, architecture), module, 224,
        layer=_layer_before_head(architecture),
        registry=load_registry(), prefix=1 if token else None,
    )  # fmt: skip
