"""DeepLIFT: the difference to a baseline, propagated back unit by unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from whylens import Explainer, Heatmap, Need, NeedsNotMet, Params, hookimpl
from whylens.plugins._arrays import as_array, completeness_gap

if TYPE_CHECKING:
    from whylens import Backbone, Subject

TOLERANCE = 0.05
FILLS: tuple[Literal["black", "grey", "blur", "mean"], ...] = ("black", "grey", "blur", "mean")
MAX_PROBE_GAP = 0.2  # of a seeded input; between the two it depends on the picture
# Functions of one number at a time, by the name they have in torch, its tensors and torch.nn; each
# may come with a final "_" or inplace=True.
ELEMENTWISE = frozenset(
    re.findall(
        r"\w+",
        "abs celu clamp clamp_max clamp_min clip elu exp gelu hardsigmoid hardswish hardtanh "
        "leaky_relu log_sigmoid logsigmoid mish prelu relu relu6 selu sigmoid silu softplus "
        "softsign sqrt square swish tanh tanhshrink",
    )
)
POOLS = frozenset(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))
INDICES = "_with_indices"


class DeepLiftParams(Params):
    """The baseline."""

    baseline: Literal["black", "grey", "blur", "mean", "all four"] = Field(
        default="black",
        description="What counts as 'nothing there', defined in pixel space; or the mean over all "
        "four, which is known as DeepLIFT SHAP.",
    )


class DeepLift(Explainer[DeepLiftParams]):
    """The rescale rule; it refuses where contributions do not add up to the score's change."""

    name = "deeplift"
    title = "DeepLIFT"
    family = "Gradient"
    summary = (
        "How much each pixel's difference to a baseline picture adds to the score, by following "
        "the difference back through every unit of the network."
    )
    limits = (
        "Depends on the baseline. Products of activations, as in attention and gating, and "
        "normalisation by the input's own spread are not covered by its rule: where that costs "
        "more than 5 % of the score's change, no map is shown."
    )
    when = "As Integrated Gradients, for one pass, where its gap stays small."
    source = (
        "Shrikumar et al. 2017, Learning Important Features Through Propagating Activation "
        "Differences, sec. 3.5.1 (rescale rule) and eq. 1 (summation to delta); several baselines "
        "as in Lundberg and Lee 2017, sec. 4.2 (Deep SHAP)"
    )
    cost = "one forward and backward pass of two inputs, for each baseline"
    needs = frozenset({Need.GRADIENTS})
    Params = DeepLiftParams

    def why_not(self, backbone: Backbone) -> str | None:
        """Return that the rule misses far too much on a probe, or None."""
        if backbone.once("deeplift", probe_gap) <= MAX_PROBE_GAP:
            return None
        return (
            "its rule does not fit what this network computes (attention, gating and layer "
            "normalisation do this): on a probe, contributions miss more than "
            f"{100 * MAX_PROBE_GAP:.0f} % of the score's change; use Integrated Gradients"
        )

    def baselines(self, subject: Subject, params: DeepLiftParams) -> torch.Tensor:
        """Return (N, C, *S) the pictures that the input is compared with, each by its own map."""
        fills = FILLS if params.baseline == "all four" else (params.baseline,)
        return torch.cat([subject.baseline(fill) for fill in fills])

    def explain(self, subject: Subject, params: DeepLiftParams) -> Heatmap:
        """Return the signed map in units of the score per pixel.

        Raises:
            NeedsNotMet: The contributions miss more than 5 % of the score's change.
        """
        starts = self.baselines(subject, params).split(1)
        values, change = torch.zeros_like(subject.x[0, 0]), 0.0
        for start in starts:
            multiplier, step = multipliers(subject, start)
            values = values + ((subject.x - start) * multiplier)[0].sum(0) / len(starts)
            change += step / len(starts)
        gap = completeness_gap(float(values.double().sum()), change, subject.rounding)
        if not gap <= TOLERANCE:
            raise NeedsNotMet(
                f"DeepLIFT's rule does not fit {subject.backbone.name}: the contributions "
                f"miss {100 * gap:.0f} % of the score's change of {change:.4g} ({subject.unit}), "
                "5 % are allowed. Products of activations (attention, gating) and layer "
                "normalisation do this. Use Integrated Gradients instead, which holds for any "
                "network."
            )
        diagnostics = {"score change": change, "completeness gap": gap}
        return Heatmap(as_array(values), subject.unit_per_place, True, diagnostics)


def probe_gap(backbone: Backbone) -> float:
    """Return the completeness gap between a seeded input and one without detail."""
    x = backbone.probe_inputs()[:1]
    with torch.enable_grad():
        both = torch.cat([x, torch.zeros_like(x)]).requires_grad_()
        with RescaleRule():
            logits = backbone.logits(both.clone())
        scores = logits[:, logits[0].argmax()]
        (gradient,) = torch.autograd.grad(scores[0], both)
    scores = scores.detach()
    change = float(scores[0] - scores[1])
    rounding = 64 * torch.finfo(logits.dtype).eps * float(logits.detach().abs().max())
    return completeness_gap(float((gradient[:1] * x).double().sum()), change, rounding)


def multipliers(subject: Subject, start: Tensor) -> tuple[Tensor, float]:
    """Return (1, C, *S) multipliers of the input's difference, and the score's change.

    Args:
        start: (1, C, *S) the baseline.
    """
    with torch.enable_grad():
        both = torch.cat([subject.x, start]).requires_grad_()
        # A copy, for a network whose first layer works in place.
        with RescaleRule():
            logits = subject.backbone.logits(both.clone())
        if subject.target.quantity == "probability":
            # In float64, as are its exponentials: logits may lie hundreds apart.
            scores = rescale_probability(logits.double(), subject.target.index)
        else:
            scores = subject.target.score(logits)
        # The input's own half alone: the baseline's gets what its multipliers share.
        (gradient,) = torch.autograd.grad(scores[0], both)
    scores = scores.detach()
    return gradient[:1], float(scores[0] - scores[1])


class RescaleRule(TorchFunctionMode):
    """A mode in which this thread's nonlinearities have the rescale rule for a gradient.

    It sees torch's functions as they are called, so that modules, functions, methods and in-place
    forms are one, and it leaves nothing on the network: torch keeps such modes per thread.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what `func` returns; its gradient is the rule's where it is not linear."""
        keywords = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        plain = name.removesuffix("_")
        if not _depends_on_input(args, keywords):
            return func(*args, **keywords)
        if plain in ELEMENTWISE:
            # The graph holds the function: with the input in it, which is written into where it
            # works in place, it would hold itself, and all that was computed, for good.
            whole, *rest = args
            # On a copy, as `func` may work in place.
            out = apply_rescale_rule(whole, lambda x: func(x.clone(), *rest, **keywords))
            in_place = name != plain or keywords.get("inplace", False)
            return whole.copy_(out) if in_place else out
        if name.removesuffix(INDICES) in POOLS:
            return _max_pool(name, args, keywords)
        return func(*args, **keywords)


def _depends_on_input(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
    # A function of two tensors that both depend on the input is a product or the like.
    rest = (*args[1:], *keywords.values())
    return (
        bool(args)
        and isinstance(args[0], Tensor)
        and args[0].requires_grad
        and not any(isinstance(a, Tensor) and a.requires_grad for a in rest)
    )


def apply_rescale_rule(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `function(x)`, whose gradient is multiplied by difference out over difference in.

    Args:
        x: (2 n, ...) values of the input, then of the baseline.
        function: Of each value by itself; not in place.
    """
    out: Tensor = _RescaleFunction.apply(x, function)
    return out


def rescale_probability(logits: Tensor, index: int) -> Tensor:
    """Return (2,) probabilities of a class, whose gradients obey the rescale rule.

    p = 1 / sum_j exp(z_j - z_index) is a chain of sums and of functions of one number; as such the
    rule covers it, and its contributions add up.

    Args:
        logits: (2, C) float64 of the input and the baseline.
    """
    differences = logits - logits[:, index : index + 1]
    ratios = apply_rescale_rule(
        differences, lambda z: z.clamp_max(700).exp()
    )  # e^710 is beyond float64
    return apply_rescale_rule(ratios.sum(-1), torch.reciprocal)


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    if values.ndim == 0 or values.shape[0] % 2:
        raise NeedsNotMet(
            f"DeepLIFT compares an input with a baseline in one batch, and a layer of this network "
            f"has values of shape {tuple(values.shape)}, without the batch first. Use Integrated "
            "Gradients instead."
        )
    first, second = values.chunk(2)
    return first, second


def _is_tiny(change: Tensor, *sizes: Tensor) -> Tensor:
    # Where a quotient of differences would be rounding. Scaled to the values: across a kink at 0
    # the difference is never small beside them, so that the kink itself is not lost.
    size = torch.stack([s.abs() for s in sizes]).amax(0)
    return change.abs() <= 1024 * torch.finfo(change.dtype).eps * size


class _RescaleFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        _halves(x)
        # A copy: what is computed next may write into it.
        ctx.save_for_backward(x.clone())
        ctx.function = function
        return function(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            out = ctx.function(leaf)
            (slope,) = torch.autograd.grad(out.sum(), leaf)
        (x1, x0), (y1, y0), (s1, s0) = _halves(x), _halves(out.detach()), _halves(slope)
        change = x1 - x0
        is_tiny = _is_tiny(change, x1, x0, y1, y0)
        # Of two slopes so close together the mean is nearer to the quotient than either.
        quotient = (y1 - y0) / torch.where(is_tiny, 1, change)
        multiplier = torch.where(is_tiny, (s1 + s0) / 2, quotient)
        return grads[0] * torch.cat([multiplier, multiplier]), None


def _max_pool(name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    pool = getattr(functional, name.removesuffix(INDICES) + INDICES)
    with_indices = keywords.pop("return_indices", False)
    whole, *rest = args
    out, indices = _MaxPoolFunction.apply(whole, lambda x: pool(x, *rest, **keywords))
    return (out, indices) if with_indices else out


def _is_top(x: Tensor, place: Tensor, top: Tensor) -> Tensor:
    flat = top.flatten(2)
    rounding = 16 * torch.finfo(x.dtype).eps * flat.abs()
    return (x.flatten(2).gather(2, place) - flat).abs() <= rounding


class _MaxPoolFunction(torch.autograd.Function):
    """Max-pooling: what the output gains goes to the input's winner, what it loses to the other's.

    With m the larger of both outputs, m - y0 is handed to the place where the input has its
    maximum and y1 - m to the place where the baseline has its own, each over the difference there.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, pool: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        _halves(x)
        out, indices = pool(x)
        ctx.save_for_backward(x.clone(), out.clone(), indices)
        ctx.mark_non_differentiable(indices)
        return out, indices

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, out, indices = ctx.saved_tensors
        (x1, x0), (y1, y0), (i1, i0) = (_halves(t) for t in (x, out, indices.flatten(2)))
        change, top = x1 - x0, torch.maximum(y1, y0)
        is_tiny = _is_tiny(change, x1, x0)
        # An even baseline has its maximum everywhere, and rounding would choose the place: where
        # one place can be the winner of both, it is.
        i0 = torch.where(_is_top(x0, i1, y0), i1, i0)
        i1 = torch.where(_is_top(x1, i0, y1), i0, i1)
        inputs = []
        for grad in _halves(grads[0]):
            empty = torch.zeros_like(x1).flatten(2)
            gained = ((top - y0) * grad).flatten(2)
            loss_shares = ((y1 - top) * grad).flatten(2)
            # Added up: windows overlap, and one place may win in several.
            contributions = (
                empty.scatter_add(2, i1, gained).scatter_add(2, i0, loss_shares).view_as(x1)
            )
            plain = empty.scatter_add(2, i1, grad.flatten(2)).view_as(x1)
            inputs.append(
                torch.where(is_tiny, plain, contributions / torch.where(is_tiny, 1, change))
            )
        return torch.cat(inputs), None


@hookimpl
def explainers() -> list[DeepLift]:
    """Return this file's explainer."""
    return [DeepLift()]
