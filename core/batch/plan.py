"""What a run over a folder does, down to the last option: one plan, one set of bytes.

Nothing about machines, workers or places is in a plan; all that decides the numbers is.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from whylens.core.batch.listing import PICTURES, SIGNALS, Listing
from whylens.core.engine import Engine
from whylens.core.errors import BadInput, NeedsNotMet
from whylens.core.inputs.framing import framing_text, parse_framing
from whylens.core.models.labels import class_index
from whylens.core.outputs.export import versions
from whylens.core.plugin_calls import validate_params
from whylens.core.storage.files import read_json_model, write_atomically
from whylens.core.targets import Quantity, check_value_question
from whylens.core.words import number_of

PLAN = "plan.json"
MapFormat = Literal["npy", "png", "picture"]
_SHARDS, _LARGEST, _SMALLEST = 64, 256, 8


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPlan(_Frozen):
    """The network.

    Attributes:
        name: Its name.
        digest: sha256 of its weights.
        input: How images are fed, as plain data.
    """

    name: str
    digest: str
    input: dict[str, Any]


class MethodPlan(_Frozen):
    """One method.

    Attributes:
        name: Its name.
        plugin: Who owns it, "distribution version".
        params: All of its parameters.
        artifact_sha256: Of the description of its artifact, or "".
    """

    name: str
    plugin: str
    params: dict[str, Any]
    artifact_sha256: str = ""


class Plan(_Frozen):
    """All that decides the bytes of a run.

    Attributes:
        files: Which files.
        shard_size: Files per shard.
        model: The network.
        methods: In the order of their rows.
        target: Class to explain; None means the predicted one.
        versus: The other class of a contrast.
        quantity: What about the class.
        seed: From which every file's own seed is drawn.
        framing: What part of each photo the network is shown, as `parse_framing` reads it.
        maps: How maps are written.
        scores: Whether every map is judged.
        threads: Of one worker: another number sums in another order.
        batch_size: Inputs in one forward pass, likewise.
        device: Where the network lies.
        versions: Of the packages that decide the numbers and the bytes.
    """

    files: Listing
    shard_size: int = Field(ge=1)
    model: ModelPlan
    methods: tuple[MethodPlan, ...]
    target: int | None = None
    versus: int | None = None
    quantity: Quantity = "logit"
    seed: int = 0
    framing: str = "network"
    maps: MapFormat = "npy"
    scores: bool = False
    threads: int = Field(1, ge=1)
    batch_size: int = Field(16, ge=1)
    device: str = "cpu"
    versions: dict[str, str]

    @property
    def shards(self) -> int:
        """Into how many shards the files are split."""
        return len(self._starts) - 1

    def span(self, shard: int) -> tuple[int, int]:
        """Return the numbers of a shard's files: the first, and the one after the last."""
        return self._starts[shard], self._starts[shard + 1]

    def shard_of(self, index: int) -> tuple[int, int]:
        """Return the shard that a file is in, and its place there."""
        shard = bisect_right(self._starts, index) - 1
        return shard, index - self._starts[shard]

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        # Files that were added later begin a shard: those before stay as they were computed.
        ends = (0, *self.files.ends, self.files.count)
        starts = (range(a, b, self.shard_size) for a, b in pairwise(ends))
        return (*chain.from_iterable(starts), self.files.count)

    def text(self) -> str:
        """Return it as JSON, the same text for the same plan."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    def digest(self) -> str:
        """Return the hex sha256 of its text."""
        return hashlib.sha256(self.text().encode()).hexdigest()


@dataclass(frozen=True)
class Request:
    """What a user asks of a folder.

    Attributes:
        folder: With pictures, or with signals for a network that reads them.
        out: Folder to write.
        model: The network's name.
        methods: Names with parameters; the defaults where absent.
        target: Index or label; None means the predicted class.
        versus: Index or label of the other class of a contrast.
        quantity: "logit" or "probability"; a contrast where `versus` is given.
        seed: From which every file's own seed is drawn.
        framing: What part of each photo the network is shown, as `parse_framing` reads it.
        maps: "npy" keeps values as they are, "png" in 65,536 steps; "picture" writes in their place
            the picture of the answer: the map over the photo, or the examples.
        scores: Whether every map is judged.
        shard_size: Files per shard; None chooses 8 to 256 by their number.
        threads: Of one worker.
        device: "cpu", or one of torch's such as "cuda".
        batch_size: Inputs in one forward pass.
        report: Whether a page of the answers is written, `report.html`; no part of the plan.
    """

    folder: Path
    out: Path
    model: str
    methods: Mapping[str, Mapping[str, object]]
    target: str | None = None
    versus: str | None = None
    quantity: Quantity = "logit"
    seed: int = 0
    framing: str = "network"
    maps: MapFormat = "npy"
    scores: bool = False
    shard_size: int | None = None
    threads: int = 1
    device: str = "cpu"
    batch_size: int = 16
    report: bool = False


def make_plan(request: Request, engine: Engine, listing: Callable[[], Listing]) -> Plan:
    """Return the plan of a request.

    Args:
        listing: Lists the files; called once all else has proved possible, since it may take long.

    Raises:
        CoreError: Of the kind that says what cannot be done: model, method, parameter or class.
    """
    card = engine.card(request.model)
    labels = card.labels
    target = None if request.target is None else class_index(request.target, labels)
    versus = None if request.versus is None else class_index(request.versus, labels)
    if card.outputs == "value":
        check_value_question(target, request.quantity, versus)
    methods = tuple(
        method_plan(engine, request.model, name, params) for name, params in request.methods.items()
    )
    framing = framing_text(parse_framing(request.framing))
    files = listing()
    return Plan(
        files=files,
        shard_size=request.shard_size or min(_LARGEST, max(_SMALLEST, -(-files.count // _SHARDS))),
        model=model_plan(engine, request.model),
        methods=methods,
        target=target,
        versus=versus,
        quantity=request.quantity if versus is None else "contrast",
        framing=framing,
        seed=request.seed,
        maps=request.maps,
        scores=request.scores,
        threads=request.threads,
        batch_size=request.batch_size,
        device=request.device,
        versions=batch_versions(),
    )


def model_plan(engine: Engine, name: str) -> ModelPlan:
    """Return what tells a network from another."""
    card = engine.card(name)
    input_spec = engine.backbone(name).input_spec.model_dump(mode="json")
    return ModelPlan(name=name, digest=card.digest, input=input_spec)


def method_plan(engine: Engine, model: str, name: str, params: Mapping[str, object]) -> MethodPlan:
    """Return what tells a method's answers from others.

    Args:
        params: The defaults where absent.

    Raises:
        CoreError: There is no such method or parameter, or it does not work on this network.
    """
    explainer = engine.registry.explainer(name)
    parameters = validate_params(explainer, explainer.Params, params)
    reason = engine.unavailable(model).get(name)
    if reason:
        raise NeedsNotMet(f"{explainer.title} is not available on {model}: {reason}")
    artifact_sha256 = ""
    if explainer.artifact_kind:
        artifact = engine.artifact_store.get(explainer, engine.backbone(model), "")
        artifact_sha256 = artifact.digest
    entry = engine.registry.entries[name]
    return MethodPlan(
        name=name,
        plugin=f"{entry.distribution} {entry.version}",
        params=parameters.model_dump(mode="json"),
        artifact_sha256=artifact_sha256,
    )


def batch_versions() -> dict[str, str]:
    """Return the versions of all that decides numbers and bytes."""
    return {**versions(), "pyarrow": metadata.version("pyarrow")}


def endings_for(engine: Engine, model: str) -> frozenset[str]:
    """Return the endings of files that a network can read.

    Raises:
        BadInput: It reads neither pictures nor signals.
    """
    axes = len(engine.backbone(model).input_spec.size)
    if axes > 2:
        raise BadInput(f"{model} reads volumes; a folder can hold pictures or signals only.")
    return PICTURES if axes == 2 else SIGNALS


def write_plan(out: Path, plan: Plan) -> None:
    """Write a plan into a run's folder."""
    write_atomically(out / PLAN, plan.text().encode())


def read_plan(out: Path) -> Plan:
    """Return the plan of a run's folder.

    Raises:
        BadArtifact: It cannot be read.
    """
    remedy = "What was begun there is unknown: choose another --out."
    return read_json_model(out / PLAN, Plan, remedy)


def plan_differences(before: Plan, now: Plan) -> list[str]:
    """Return in words how a plan differs from the one before; nothing where it does not."""
    if before.files != now.files:
        before_count, now_count = before.files.count, now.files.count
        change = (
            f"{number_of(before_count, 'file')}, now {now_count:,}"
            if before_count != now_count
            else "other files or sizes"
        )
        return [f"the folder held {change}"]
    names, names_now = ([method.name for method in plan.methods] for plan in (before, now))
    if names != names_now:
        return [f"the methods were {', '.join(names)}, now {', '.join(names_now)}"]
    old, new = (_flat("", json.loads(plan.text())) for plan in (before, now))
    return [
        f"{key} was {old.get(key)!r}, now {new.get(key)!r}"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        value = {str(item.get("name", i)) if isinstance(item, dict) else str(i): item
                 for i, item in enumerate(value)}  # fmt: skip
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(f"{prefix}.{key}" if prefix else key, inner)
    return flat
