"""Explainers with one real mistake each, as seen in public code, beside the sound one they spoil.

Each must fail the conformance test that is there for its mistake, and pass all others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from whylens import (
    Artifact,
    Example,
    Examples,
    Explainer,
    Heatmap,
    Need,
    NoParams,
    Partial,
    Progress,
    iter_tensors,
)


class Sound(Explainer[NoParams]):
    """Features times their gradient, summed over channels: a HiResCAM, in shares of the score."""

    name = "sound"
    title = "Sound"
    family = "Test"
    summary = limits = source = cost = "For tests."
    needs = frozenset({Need.GRADIENTS, Need.SPATIAL_FEATURES})
    Params = NoParams

    def explain(self, subject, params):
        return Heatmap(self.map(subject).numpy(), "share of the score", signed=True)

    def map(self, subject):
        return (subject.features * subject.gradients)[0].sum(0)


class NumbersFromOne(Sound):
    """Numbers cells from 1 and values from 0: heat lies one cell further on (DIANNA PR #898)."""

    def map(self, subject):
        values = super().map(subject)
        return values.flatten().roll(1).reshape(values.shape)


class StretchesTheCrop(Sound):
    """Enlarges its map as if the crop were the whole photo (keras-io #784, anomalib #3129)."""

    def map(self, subject):
        values = super().map(subject)
        crop = subject.backbone.input_spec.crop
        if crop >= 1 or values.ndim != 2:
            return values
        rows, columns = subject.size
        large = functional.interpolate(values[None, None], size=(rows, columns), mode="nearest")
        canvas = torch.zeros(round(rows / crop), round(columns / crop))
        canvas[:rows, :columns] = large[0, 0]
        return canvas


class AddsEpsilon(Sound):
    """Guards a division by adding 1e-6 to a denominator that may be smaller (pytorch-grad-cam)."""

    def map(self, subject):
        slopes = subject.gradients[0].flatten(1)
        alpha = slopes**2 / (2 * slopes**2 + 1e-6)
        weights = (alpha * slopes).sum(-1)
        return torch.einsum("k,k...->...", weights, subject.features[0])


class NormalisesPerMap(Sound):
    """Divides by its own largest value and still calls the result a score (torch-cam)."""

    def explain(self, subject, params):
        values = self.map(subject)
        top = values.abs().max()
        return Heatmap((values / top if top else values).numpy(), subject.unit, signed=True)


class UnseededNoise(Sound):
    """Draws its noise from a generator that nobody seeded."""

    def map(self, subject):
        rng = np.random.default_rng()
        wobble = 1 + 1e-5 * torch.from_numpy(rng.normal(size=subject.features.shape)).float()
        return (subject.features * wobble * subject.gradients)[0].sum(0)


class LeavesHooks(Sound):
    """Hooks the network, switches its mode, and restores neither (pytorch-grad-cam)."""

    def map(self, subject):
        module = subject.backbone.module
        module.train()
        module.register_forward_hook(lambda *_: None)
        return super().map(subject)


class PaintsBlanks(Sound):
    """Divides by its largest value plus a hair: what is next to nothing becomes a map."""

    def explain(self, subject, params):
        values = self.map(subject).numpy()
        prior = 1e-9 * np.arange(values.size, dtype=np.float32).reshape(values.shape)
        return Heatmap((values + prior) / (np.abs(values).max() + 1e-12), "share of the top", True)


class StripsOneToken(Sound):
    """Takes the features itself and strips one prefix token, whatever their number."""

    def map(self, subject):
        module = subject.backbone.module
        with torch.no_grad():
            raw = module.features(subject.x) if hasattr(module, "features") else subject.features
        if raw.ndim == 3 and hasattr(module, "num_prefix_tokens"):
            tokens = raw[:, 1:].transpose(1, 2)
            features = tokens.reshape(*tokens.shape[:2], *subject.features.shape[2:])
        else:
            features = subject.features
        return (features * subject.gradients)[0].sum(0)


class ExplainsThePrediction(Sound):
    """Takes the gradient of the largest score, not of the one asked about."""

    def map(self, subject):
        logits = subject.forward_pass.logits
        best = torch.zeros(logits.shape[1], dtype=logits.dtype)
        best[logits[0].argmax()] = 1
        leaf = subject.features.clone().requires_grad_()
        with torch.enable_grad():
            score = subject.forward_pass.head_logits(leaf)[0] @ best
        (gradient,) = torch.autograd.grad(score, leaf)
        return (subject.features * gradient)[0].sum(0)


class DividesByTheScore(Sound):
    """Divides by the score, so that a negative one turns the map over (Ablation-CAM)."""

    def map(self, subject):
        return super().map(subject) / (subject.score or 1.0)


class AllAtOnce(Sound):
    """Puts all its noisy copies into one forward pass (captum's GradientShap, Xplique)."""

    needs = frozenset({Need.GRADIENTS})

    def map(self, subject):
        noise = torch.randn(24, *subject.x.shape[1:], generator=subject.generator())
        copies = (subject.x + 1e-4 * noise.to(subject.x)).requires_grad_()
        with torch.enable_grad():
            total = subject.target.score(subject.backbone.fast_logits(copies)).sum()
        (gradients,) = torch.autograd.grad(total, copies)
        return (gradients.mean(0) * (subject.x - subject.baseline("black"))[0]).sum(0)


class KeepsTheQuestion(Sound):
    """Keeps what it was asked on itself, where the next visitor overwrites it."""

    def explain(self, subject, params):
        self.subject = subject
        zeros = np.zeros(subject.features.shape[2:], np.float32)
        yield Partial(Heatmap(zeros, "share of the score", True), 0.5)
        yield Partial(Heatmap(self.map(self.subject).numpy(), "share of the score", True), 1.0)


class CentrePrior(Sound):
    """Prefers the middle, where photographers put things; the photo need not."""

    def map(self, subject):
        values = super().map(subject)
        for axis, length in enumerate(values.shape):
            ramp = torch.linspace(-1, 1, length) if length > 1 else torch.zeros(1)
            shape = [length if a == axis else 1 for a in range(values.ndim)]
            values = values * torch.exp(-(ramp**2) / 8).view(shape)
        return values


class KnowsPicturesOnly(Sound):
    """Enlarges its map bilinearly, whatever the number of axes (torch-cam's Score-CAM)."""

    def map(self, subject):
        values = super().map(subject)[None, None]
        return functional.interpolate(values, size=subject.size, mode="bilinear")[0, 0]


class ShowsSizes(Sound):
    """Shows the size of evidence as if all of it spoke for the class (Captum Insights)."""

    def explain(self, subject, params):
        return Heatmap(self.map(subject).abs().numpy(), "share of the score")


class ShortTrapezoid(Sound):
    """Integrates by trapezoids whose weights add up to (n - 1) / n (captum), and claims no gap."""

    needs = frozenset({Need.GRADIENTS})

    def explain(self, subject, params):
        start, steps = subject.baseline("black"), 8
        along = torch.linspace(0, 1, steps).view(-1, 1, *[1] * len(subject.size))
        weights = torch.full((steps,), 1 / steps)
        weights[0] = weights[-1] = 1 / (2 * steps)
        step = subject.x - start
        gradients = subject.input_gradients(start + along * step)
        values = (step * torch.einsum("n,n...->...", weights, gradients))[0].sum(0)
        change = float(subject.score - subject.scores(start)[0])
        checks = {"score change": change, "completeness gap": 0.0}
        return Heatmap(values.numpy(), "share of the score", True, checks)


class CutsTheCAM(Sound):
    """Keeps what is positive of a CAM, whose mean is then no score."""

    needs = frozenset({Need.SPATIAL_FEATURES, Need.POOLED_LINEAR_HEAD})

    def explain(self, subject, params):
        weights = subject.target_row @ subject.linear_head.weight
        values = torch.einsum("k,k...->...", weights, subject.features[0])
        return Heatmap(values.relu().numpy(), "share of the score")


class ErrorOfOneSample(Sound):
    """States how far single samples scatter as the error of their mean."""

    def explain(self, subject, params):
        generator = subject.generator()
        values = self.map(subject)
        size = 0.01 * values.abs().mean()
        noise = size * torch.randn(64, *values.shape, generator=generator)
        noisy_values = values + noise
        return Heatmap(
            noisy_values.mean(0).numpy(),
            "share of the score",
            True,
            error=noisy_values.std(0).numpy(),
        )


class ShowsTheQuestion(Sound):
    """Finds the nearest pictures of a gallery, the question itself among them."""

    question_kind = "like what"
    needs = frozenset()
    artifact_kind = "a gallery of training pictures"
    FitParams = NoParams

    def fit(self, dataset, backbone, params):
        train = dataset.of("train")
        inputs = [x for _, x in iter_tensors(dataset, train, backbone.input_spec)]
        vectors = torch.cat([backbone.embed(x) for x in inputs]).numpy()
        arrays = {"vectors": vectors, "pictures": np.stack([dataset.pixels(i) for i in train])}
        keys = [dataset.items[i].key for i in train]
        yield Progress(1.0, "done", Artifact(arrays, {"keys": keys}))

    def explain(self, subject, params):
        arrays, keys = subject.artifact.arrays, subject.artifact.facts["keys"]
        weights = subject.embedding_weights.abs().numpy()
        distances = np.square((arrays["vectors"] - subject.embedding.numpy()) * weights).sum(1)
        indices = [int(i) for i in distances.argsort(kind="stable")[:4]]
        items = [
            Example(arrays["pictures"][i], keys[i], 1 / (1 + float(distances[i])), keys[i])
            for i in indices
        ]
        return Examples(tuple(items), "closeness")


# The numbers of the tests that each must fail: all others it must pass. Heat in the wrong place is
# found by every test that knows the right one.
WRONG = {
    NumbersFromOne: {1, 2, 3, 5, 13, 17},
    StretchesTheCrop: {2},
    ShowsSizes: {3},
    ShortTrapezoid: {3},
    CutsTheCAM: {4},
    AddsEpsilon: {5},
    NormalisesPerMap: {5},
    ErrorOfOneSample: {6},
    UnseededNoise: {7},
    LeavesHooks: {8},
    PaintsBlanks: {9},
    StripsOneToken: {10},
    ExplainsThePrediction: {11},
    CentrePrior: {5, 12},
    DividesByTheScore: {14},
    AllAtOnce: {15},
    KeepsTheQuestion: {16},
    KnowsPicturesOnly: {17},
    ShowsTheQuestion: {18},
}
