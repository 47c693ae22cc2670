"""A metric under test, and the cases it is asked about: linear networks whose truth is known."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from whylens.core.conformance.outcome import CheckFailed, NotApplicable
from whylens.core.conformance.toy_networks import LinearNet, ToyNetworks, plain_spec, randomise
from whylens.core.errors import CoreError
from whylens.core.evaluation.metric import Case, Metric, Score
from whylens.core.models.backbone import Backbone, ModelSource, wrap
from whylens.core.models.forward_pass import ForwardPass
from whylens.core.results import Heatmap
from whylens.core.subject import Subject
from whylens.core.targets import Outputs, Target

SIZE = (16, 24)
GRID = (4, 6)
Explain = Callable[[Subject], Heatmap]


class RecordingSubject(Subject):
    """A question that notes what the network is asked."""

    @property
    def requests(self) -> list[bytes]:
        """What was asked so far of this input."""
        requests: list[bytes] = self.forward_pass.memo.setdefault("requests", [])
        return requests

    def fast_logits(self, inputs: Tensor) -> Tensor:
        """Return the logits, and note every input."""
        self.requests.extend(row.cpu().numpy().tobytes() for row in inputs)
        return super().fast_logits(inputs)

    def window_scores(self, boxes: Sequence[tuple[slice, ...]], fill: Tensor) -> Iterator[Tensor]:
        """Return the scores, and note every window."""
        self.requests.extend(repr(box).encode() for box in boxes)
        return super().window_scores(boxes, fill)


def sloped_backbone(
    outputs: Outputs = "classes", other_scores: float = 0.0, offset: float = 0.0
) -> Backbone:
    """Return a network whose class 1 reads light for it at the top, and against it at the bottom.

    Args:
        other_scores: Added to the scores of the other classes.
        offset: Added to the scores of all.
    """
    module = randomise(LinearNet(size=SIZE))
    slope = torch.zeros(SIZE)
    slope[:4], slope[-2:] = torch.linspace(1, 0.6, 4)[:, None], -0.4
    with torch.no_grad():
        weight = module.get_parameter("fc.weight")
        weight.mul_(0.02)
        weight[1] = 0.06 * slope.expand(3, *SIZE).flatten()
        module.get_parameter("fc.bias").copy_(offset + other_scores * torch.tensor([1.0, 0.0, 1.0]))
    name = f"sloped, {outputs}, {other_scores:g}, {offset:g}"
    return wrap(module, input_spec=plain_spec(*SIZE), identity=_identity(name), outputs=outputs)


def dots() -> Backbone:
    """Return a network whose class 1 reads twelve places alone, eight for it and four against."""
    module = LinearNet(size=SIZE)
    with torch.no_grad():
        module.fc.weight.zero_()
        module.fc.bias.zero_()
        module.fc.weight[1] = (_dot_weights() / 3).expand(3, *SIZE).flatten()
    return wrap(module, input_spec=plain_spec(*SIZE), identity=_identity("dots"))


def _dot_weights() -> Tensor:
    # So far apart that the blur of one does not reach the next: whatever hides a place, what the
    # class loses by it is in proportion to the weight.
    weights = torch.zeros(SIZE)
    weights[2::6, 2::6] = torch.tensor(
        [[0.9, -0.5, 0.3, 0.7], [0.4, 0.8, -0.3, 0.5], [-0.7, 0.6, 1.0, -0.4]]
    )
    return weights


def random_network(seed: int) -> Backbone:
    """Return a linear network of random weights."""
    module = randomise(LinearNet(size=SIZE), 100 + seed)
    identity = _identity(f"random, {seed}")
    return wrap(module, input_spec=plain_spec(*SIZE), identity=identity)


def _identity(name: str) -> ModelSource:
    # Instead of a digest of the weights: how normal numbers are drawn depends on the processor, and
    # so would the random maps that are drawn by the digest.
    return ModelSource(name, sha256(name.encode()).hexdigest())


def heatmap(values: object) -> Heatmap:
    """Return a signed map of some values."""
    return Heatmap(np.asarray(values, np.float32), "test", signed=True)


def exact(subject: Subject) -> Heatmap:
    """Return what each pixel adds to the score of a linear network, but for 1 % of seeded noise."""
    values = (subject.input_gradients(subject.x) * subject.x)[0].sum(0)
    noise = torch.randn(subject.size, generator=subject.generator())
    return heatmap(values + 0.01 * values.std() * noise)


def random_values(subject: Subject, salt: int = 0) -> np.ndarray:
    """Return (*GRID) values in 0 to 1 that are others for every input, seed, class and network."""
    digest, target = subject.backbone.identity.digest, subject.target.index
    words = f"{salt} {subject.seed} {target} {digest}".encode() + subject.x.numpy().tobytes()
    return np.random.default_rng(zlib.crc32(words)).random(GRID)


@dataclass
class MetricUnderTest:
    """A metric under test; its networks are built once.

    Attributes:
        metric: The metric.
    """

    metric: Metric
    networks: ToyNetworks = field(default_factory=ToyNetworks)

    def case(
        self,
        backbone: Backbone | None = None,
        explain: Explain = exact,
        target: Target | None = None,
        *,
        batch_size: int = 16,
    ) -> Case:
        """Return a case of noise, with a forward pass of its own.

        Args:
            backbone: By default `sloped()`.
            explain: What made its map.
        """
        x = 0.2 + 0.8 * torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(5))
        mask = torch.zeros(SIZE, dtype=torch.bool)
        mask[:, : SIZE[1] // 2 - 4] = True
        return self._case(
            backbone or self.networks.get(sloped_backbone), x, mask, explain, target, batch_size
        )

    def exact_case(self) -> Case:
        """Return a case whose truth is known wherever the network is asked, whatever hides places.

        Its mask is where something speaks for the class.
        """
        weights = _dot_weights()
        x = (weights != 0).float().expand(1, 3, *SIZE)
        return self._case(self.networks.get(dots), x, weights > 0, lambda _: heatmap(weights), None)

    def _case(
        self,
        backbone: Backbone,
        x: Tensor,
        mask: Tensor,
        explain: Explain,
        target: Target | None = None,
        batch_size: int = 16,
    ) -> Case:
        target = target or Target(1, outputs=backbone.outputs)
        subject = RecordingSubject(ForwardPass(backbone, x), target, batch_size)

        @cache
        def with_random_weights(seed: int) -> Subject:
            network = self.networks.get(random_network, seed)
            return replace(subject, forward_pass=ForwardPass(network, x))

        return Case(
            subject, explain(subject), explain, with_random_weights, mask, torch.zeros_like(x)
        )

    def score(self, case: Case) -> Score:
        """Return the finished score.

        Raises:
            CheckFailed: It fails, or ends without a finished score.
            NotApplicable: It has no value here, and says why.
        """
        try:
            steps = list(self.metric.steps(case))
        except CoreError as exc:
            raise NotApplicable(f"it refuses this case: {exc}") from exc
        except Exception as exc:
            raise CheckFailed(
                f"measure() raised {type(exc).__name__}: {exc}. It must come to a score, or yield "
                "one without a value whose note says why."
            ) from exc
        if not steps or not isinstance(steps[-1], Score) or steps[-1].fraction != 1:
            raise CheckFailed("measure() must yield scores, the last of them with a fraction of 1.")
        if steps[-1].value is None:
            if not steps[-1].note:
                raise CheckFailed("A score without a value must say why in its note.")
            raise NotApplicable(f"it has no value here: {steps[-1].note}")
        if not np.isfinite(steps[-1].value):
            raise CheckFailed("A score is a finite number, or None with a note that says why.")
        return steps[-1]

    def value(self, case: Case) -> float:
        """Return the value of the finished score; raises as `score` does."""
        value = self.score(case).value
        return float("nan") if value is None else value

    def better(self, a: float, b: float) -> float:
        """Return by how much `a` is better than `b`, in the direction that the metric states.

        Raises:
            NotApplicable: It only describes.
        """
        if self.metric.direction == "none":
            raise NotApplicable('it only describes: its direction is "none"')
        return a - b if self.metric.direction == "higher" else b - a
