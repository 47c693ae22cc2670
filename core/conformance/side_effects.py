"""Tests 8, 15 and 16: no mark is left on the network, the process or the explainer itself.

What is compared is everything that no explainer may change.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whylens.core.conformance.outcome import CheckFailed, NotApplicable, difference, require
from whylens.core.conformance.randomness import (
    default_network,
    for_each_network,
    non_blank_answer,
)
from whylens.core.conformance.toy_inputs import noise
from whylens.core.conformance.toy_networks import LABELS, PatchNet, randomise, tinted_spec
from whylens.core.conformance.under_test import ExplainerUnderTest, figures
from whylens.core.errors import CoreError, ExplainerFailed
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.words import percent

REMEDIES = {
    "values": "weights or buffers have other values: work on a copy, and never train in place",
    "training": "a module's training flag is another: restore what you set in a finally block",
    "hooks": "hooks were left: remove them in a finally block",
    "wanted": "requires_grad of a parameter is another: ask for gradients of inputs or features",
    "grad": "a .grad was left: use torch.autograd.grad instead of .backward()",
    "same": "parameters were replaced by others: work on a copy",
    "random": "Python's global random numbers were drawn: use subject.generator()",
    "numpy": "NumPy's global random numbers were drawn: use subject.generator()",
    "torch": "torch's global random numbers were drawn: use subject.generator()",
    "mode": "gradients are switched on or off for good: use `with torch.no_grad():`",
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state(backbone: Backbone) -> dict[str, object]:
    """Return everything about a network and the process that no explainer may change."""
    module = backbone.module
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    parts = list(module.modules())
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    return {
        "values": digest.hexdigest(),
        "training": [part.training for part in parts],
        "hooks": [len(getattr(part, kind)) for part in parts for kind in _HOOKS],
        "wanted": [tensor.requires_grad for tensor in tensors],
        "grad": [tensor.grad is None for tensor in tensors],
        "same": [id(tensor) for tensor in tensors],
        "random": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002 - the global one is watched
        "torch": torch.get_rng_state().numpy().tobytes(),
        "mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def restored(candidate: ExplainerUnderTest) -> None:
    """An answer, and one that is stopped halfway, leave network, input and process as they were."""
    for_each_network(
        candidate,
        lambda make: _leaves_no_mark(candidate, candidate.network(make)),
        briefly="a transformer",
    )


def _leaves_no_mark(candidate: ExplainerUnderTest, backbone: Backbone) -> None:
    x = noise(backbone.input_spec)
    subject = candidate.subject(backbone, x, 1)
    features = None if backbone.split is None else subject.features.clone()
    before, copy = state(backbone), x.clone()
    try:
        candidate.answer_to(subject)
        _require_unchanged(before, state(backbone), "After an answer")
        require(torch.equal(x, copy), "The input was written into. Clone before changing it.")
        require(
            features is None or torch.equal(subject.features, features),
            "subject.features was written into; other methods read it too. Clone before changing.",
        )
        steps = candidate.steps(candidate.subject(backbone, x, 2))
        next(steps)
        close = getattr(steps, "close", None)
        if close is not None:
            close()
        _require_unchanged(before, state(backbone), "After a visitor pressed Stop")
        with torch.no_grad():
            candidate.answer(backbone, x, 0)
            require(not torch.is_grad_enabled(), "Gradients were switched on for the caller.")
        _require_unchanged(before, state(backbone), "After a call without gradients")
    finally:
        _mend(before)


def _mend(before: dict[str, object]) -> None:
    # A test that finds the process changed must not hand it on to the next.
    mode = before["mode"]
    torch.set_grad_enabled(bool(isinstance(mode, tuple) and mode[0]))


def _require_unchanged(before: dict[str, object], after: dict[str, object], when: str) -> None:
    wrong = [REMEDIES[key] for key in before if before[key] != after[key]]
    require(not wrong, f"{when}, {'; '.join(wrong)}.")


class _Fuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, switch: Switch) -> Tensor:
        ctx.switch = switch
        if switch.armed == "forward":
            raise ZeroDivisionError("blown on the way there")
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if ctx.switch.armed == "backward":
            raise ZeroDivisionError("blown on the way back")
        return gradients[0], None


class Switch:
    """Blows a head when armed; shared by copies of the network.

    Attributes:
        armed: "", "forward" or "backward".
    """

    armed = ""

    def __deepcopy__(self, memo: object) -> Switch:
        return self


class FusedNet(PatchNet):
    """A `PatchNet` with a head that raises when told to."""

    def __init__(self, switch: Switch) -> None:
        super().__init__()
        self.switch = switch

    def head(self, f: Tensor) -> Tensor:
        """Return (N, C) scores of a feature map."""
        return super().head(_Fuse.apply(f, self.switch))


def after_failure(candidate: ExplainerUnderTest) -> None:
    """A network that fails midway is left as it was, and its failure is not swallowed."""
    switch = Switch()
    backbone = wrap(randomise(FusedNet(switch)), input_spec=tinted_spec(), labels=LABELS)
    expected = non_blank_answer(candidate, backbone)
    target = expected.subject.target
    before = state(backbone)
    for stage in ("forward", "backward"):
        subject = candidate.subject(backbone, noise(backbone.input_spec), target)
        switch.armed, message, actual = stage, "", None
        try:
            *_, actual = candidate.steps(subject)
        except (ExplainerFailed, CoreError) as failure:
            message = str(failure)
        finally:
            switch.armed = ""
        # A method that asks the head nothing further is not harmed by what comes later.
        harmless = actual is not None and difference(figures(actual.result), expected.values) < 1e-3
        require(
            "blown on the way" in message or harmless,
            f"The network raised an error in its {stage} pass, but explain() answered all the "
            f"same{': ' + message if message else ''}. Let errors through: a map "
            "made in spite of one is no explanation.",
        )
        _require_unchanged(before, state(backbone), f"After an error in the {stage} pass")
    second_answer = candidate.answer(backbone, noise(backbone.input_spec), target)
    require(
        difference(second_answer.values, expected.values) < 1e-3,
        "After an error the same question has another answer. Keep nothing between calls.",
    )


class Meter:
    """The largest batch that reached a network; shared by its copies.

    Attributes:
        largest: Inputs, or feature maps, in one call.
    """

    largest = 0

    def __deepcopy__(self, memo: object) -> Meter:
        return self

    def note(self, batch: Tensor) -> None:
        """Take in a batch."""
        self.largest = max(self.largest, len(batch))


class MeteredNet(PatchNet):
    """A `PatchNet` that notes how much it is given at once."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.meter = meter

    def features(self, x: Tensor) -> Tensor:
        """Return the feature map of (N, C, *S) inputs."""
        self.meter.note(x)
        return super().features(x)

    def head(self, f: Tensor) -> Tensor:
        """Return (N, C) scores of a feature map."""
        self.meter.note(f)
        return super().head(f)


def batch_bound(candidate: ExplainerUnderTest) -> None:
    """No forward pass takes more inputs than batch_size: memory is bounded by it."""
    meter, limit = Meter(), 4
    backbone = wrap(randomise(MeteredNet(meter)), input_spec=tinted_spec(), labels=LABELS)
    subject = candidate.subject(backbone, noise(backbone.input_spec), 1, batch_size=limit)
    meter.largest = 0
    candidate.answer_to(subject)
    require(
        meter.largest <= limit,
        f"A forward pass took {meter.largest} inputs at once, where subject.batch_size allows "
        f"{limit}. Use subject.scores, fast_logits or masked_scores, which cut batches, or cut "
        "them yourself.",
    )


def flat_memory(candidate: ExplainerUnderTest) -> None:
    """Two hundred answers leave the process's memory as it was."""
    backbone = default_network(candidate)
    for call in range(50):
        candidate.answer(backbone, noise(backbone.input_spec, call), call % 3)
    memory, gpu_memory = _resident(), _on_gpu()
    for call in range(200):
        candidate.answer(backbone, noise(backbone.input_spec, 1000 + call), call % 3)
    growth, gpu_growth = _resident() - memory, _on_gpu() - gpu_memory
    require(
        growth < 8_000_000 and gpu_growth <= 0,
        f"200 answers took {growth / 1e6:.1f} MB more memory, and {gpu_growth} bytes of the GPU's. "
        "Keep no tensors between calls, and no graphs: detach what is kept.",
    )


def _resident() -> int:
    import gc
    import os
    from pathlib import Path

    gc.collect()
    table = Path("/proc/self/statm")
    if not table.is_file():
        raise NotApplicable("this system does not say how much memory a process holds")
    return int(table.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _on_gpu() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def threads(candidate: ExplainerUnderTest) -> None:
    """Questions that are answered at once, of two networks, have the answers they have alone."""
    nets = [default_network(candidate, seed).prepare() for seed in (3, 8)]
    questions = [(net, target) for net in nets for target in (0, 1)]

    def subject(number: int) -> Any:
        net, target = questions[number]
        return candidate.subject(net, noise(net.input_spec), target)

    alone = [candidate.plain_answer(*question).values for question in questions]
    before = _attribute_ids(candidate)
    # Two visitors of one tab: the first waits while the second is answered.
    slow_steps = candidate.steps(subject(0))
    first_step = next(slow_steps)
    candidate.answer_to(subject(3))
    *_, last_step = [first_step, *slow_steps]
    distance = difference(figures(last_step.result), alone[0])
    require(distance <= 1e-3, _MIXED.format(percent(distance, 1)))
    wrong: list[BaseException] = []
    visitors, calls = (4, 1) if candidate.brief else (8, 2)

    def work(first: int) -> None:
        try:
            for call in range(calls):
                number = (first + call) % len(questions)
                actual = candidate.answer_to(subject(number)).values
                apart = difference(actual, alone[number])
                if apart > 1e-3:
                    raise CheckFailed(_MIXED.format(apart))  # noqa: TRY301 - one way out
        except BaseException as failure:  # noqa: BLE001 - a thread's failure is this test's
            wrong.append(failure)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(visitors)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for failure in wrong:
        raise failure
    changes = sorted(
        name for name, value in _attribute_ids(candidate).items() if before.get(name) != value
    )
    require(
        not changes,
        f"It keeps {changes} on itself. One instance serves all visitors: pass values along, or "
        "keep what holds of a network by subject.backbone.once.",
    )


def _attribute_ids(candidate: ExplainerUnderTest) -> dict[str, int]:
    return {name: id(value) for name, value in vars(candidate.explainer).items()}


_MIXED = (
    "While another question was being answered, this one's answer came out different by {}. "
    "Keep nothing on self or in the module: one instance serves all visitors at once."
)
