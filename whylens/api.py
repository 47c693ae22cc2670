"""The public functions: from any network and any image to an explanation in one call."""

from __future__ import annotations

import difflib
import operator
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack, overload

import torch
from torch import nn

from whylens.core.engine import Engine
from whylens.core.errors import BadArtifact, BadInput, CoreError, InvalidParameter, UnknownName
from whylens.core.explainer import Explainer, contract_errors
from whylens.core.explanation import Question
from whylens.core.inputs.arrays import (
    contents_of,
    images_of,
    read_channels,
    reads_photos,
    shape_of,
    to_photo,
)
from whylens.core.inputs.framing import parse_framing
from whylens.core.models.adapt import backbone_of
from whylens.core.models.backbone import Backbone
from whylens.core.models.black_box import BlackBox
from whylens.core.models.checkpoints import find_models, is_transformers_path
from whylens.core.models.function_target import function_name
from whylens.core.models.labels import class_index
from whylens.core.models.load import from_folder, load
from whylens.core.models.module_input import (
    ModuleDescription,
    ModuleHint,
    PerChannel,
    Size,
    no_model_words,
)
from whylens.core.models.output_paths import ClassScores, FunctionOfOutputs
from whylens.core.progress import ProgressCallback, last_of
from whylens.core.registry import Entry, Registry
from whylens.core.targets import ClassScore, Quantity
from whylens.why import MethodNames, SideBySide, Why

Model = str | os.PathLike[str] | nn.Module | Backbone | Callable[[torch.Tensor], Any]
Method = str | Explainer[Any]
Labels = Sequence[str] | Mapping[Any, str]
Target = int | str | Callable[[Any], torch.Tensor]


@overload
def explain(
    model: Model, image: list[Any] | tuple[Any, ...], method: Method, **options: Any
) -> list[Why]: ...
@overload
def explain(model: Model, image: object, method: Method, **options: Any) -> Why: ...
def explain(
    model: Model,
    image: Any,
    method: Method,
    *,
    target: Target | None = None,
    versus: int | str | None = None,
    quantity: Quantity = "logit",
    seed: int = 0,
    framing: str | Sequence[float] = "network",
    size: Size | None = None,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    labels: Labels = (),
    output: str | int | None = None,
    unit: str | None = None,
    **params: Any,
) -> Any:
    """Return why a network decides as it does about an image: a `Why`, or one per image of a list.

    Args:
        model: A model's name, any `nn.Module`, what `load_model` returned, or a function from
            (N, C, H, W) floats in 0 to 1 to (N, classes) scores. A module is copied and left as it
            is; `load_model` saves the copying where one network is asked often.
        image: A path, an open file or its bytes, a Pillow image, an array or tensor of (H, W, C) or
            (C, H, W) in bytes or floats in 0 to 1, not normalised; a signal where the network
            reads signals; or a list of these.
        method: A method's name, as `methods()` lists them, or an `Explainer`.
        target: Class to explain, by index or label, by default the predicted one; or any function
            from the network's outputs for N inputs to (N,) numbers, as of one output of a
            regression, or of a segmentation's mean over a region.
        versus: Explain the target rather than this class.
        quantity: "logit", "probability" or "contrast".
        seed: For methods that draw random numbers.
        framing: What part of a photo the network is shown: "network" is its own crop, "whole" the
            whole photo, fitted, and (left, top, right, bottom) a part, in shares of the photo.
        size: Input of a module: (height, width), or one number for a square.
        mean: Normalisation of a module's input, per channel or one for all, of values in 0 to 1.
        std: Likewise.
        labels: Of a module's classes.
        output: Of a module with several outputs, the name or number of the one to explain.
        unit: Of a module whose output is one number and no score, as in "years".
        **params: The method's own parameters; `methods()` names them.

    Raises:
        CoreError: What is wrong, and what to do.
    """
    images, is_list = images_of(image)
    hint = ModuleHint.of(size, mean, std, labels, output, unit)
    session = _Session.of(model, images, hint, target).with_method(method)
    parameters = session.params(method, params)
    answers = []
    for item in images:
        question, source = session.question(item, target, versus, quantity, seed, framing)
        answers.append(last_of(session.steps(question, method, parameters, source)))
    return answers if is_list else answers[0]


def explain_steps(
    model: Model,
    image: Any,
    method: Method,
    *,
    target: Target | None = None,
    versus: int | str | None = None,
    quantity: Quantity = "logit",
    seed: int = 0,
    framing: str | Sequence[float] = "network",
    size: Size | None = None,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    labels: Labels = (),
    output: str | int | None = None,
    unit: str | None = None,
    **params: Any,
) -> Generator[Why]:
    """Yield a `Why` after every step of the work, each better than the one before.

    `fraction` says how far it is, `finished` marks the last; closing the generator stops the work.

    Args:
        model: As for `explain`, and so are the others.
        image: One image.
        method: A method's name or an `Explainer`.
        target: Class to explain, by index or label, or a function of the outputs.
        versus: Explain the target rather than this class.
        quantity: "logit", "probability" or "contrast".
        seed: For methods that draw random numbers.
        framing: "network", "whole" or a part, as in `explain`.
        size: Input of a module.
        mean: Normalisation of a module's input.
        std: Likewise.
        labels: Of a module's classes.
        output: Of a module with several outputs, the name or number of the one to explain.
        unit: Of a module whose output is one number and no score, as in "years".
        **params: The method's own parameters.

    Raises:
        CoreError: What is wrong, and what to do; before the first step.
    """
    if isinstance(image, list | tuple):
        raise BadInput("Steps are of one image; call explain_steps once for each.")
    hint, image = ModuleHint.of(size, mean, std, labels, output, unit), contents_of(image)
    session = _Session.of(model, [image], hint, target).with_method(method)
    parameters = session.params(method, params)
    question, source = session.question(image, target, versus, quantity, seed, framing)
    return session.steps(question, method, parameters, source)


def compare(
    model: Model,
    image: Any,
    methods: Sequence[Method],
    *,
    target: Target | None = None,
    versus: int | str | None = None,
    quantity: Quantity = "logit",
    seed: int = 0,
    framing: str | Sequence[float] = "network",
    size: Size | None = None,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    labels: Labels = (),
    output: str | int | None = None,
    unit: str | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    shared: bool = False,
) -> SideBySide:
    """Return the answers of several methods about one image, drawn in a row.

    A method that cannot be used on this network is named in `problems`; the others answer.

    Args:
        model: As for `explain`, and so are the others that are not named here.
        image: One image.
        methods: Names or explainers.
        target: Class to explain, by index or label, or a function of the outputs.
        versus: Explain the target rather than this class.
        quantity: "logit", "probability" or "contrast".
        seed: For methods that draw random numbers.
        framing: "network", "whole" or a part, as in `explain`.
        size: Input of a module.
        mean: Normalisation of a module's input.
        std: Likewise.
        labels: Of a module's classes.
        output: Of a module with several outputs, the name or number of the one to explain.
        unit: Of a module whose output is one number and no score, as in "years".
        params: Parameters by method.
        shared: Let one colour be one raw value in all maps of one unit, not each map's own share.

    Raises:
        CoreError: A name is unknown, the input cannot be used, or no method answers.
    """
    if isinstance(image, list | tuple):
        raise BadInput("One image is compared at a time; call compare once for each.")
    if isinstance(methods, str | Explainer):
        methods = [methods]
    hint, image = ModuleHint.of(size, mean, std, labels, output, unit), contents_of(image)
    session = _Session.of(model, [image], hint, target)
    for method in methods:
        session = session.with_method(method)
    own = dict(params or {})
    names = [_name(method) for method in methods]
    unknown = [name for name in own if name not in names]
    if unknown:
        raise UnknownName.among("compared method", unknown[0], names)
    parameters = {n: session.params(m, own.get(n, {})) for n, m in zip(names, methods, strict=True)}
    question, source = session.question(image, target, versus, quantity, seed, framing)
    answers, problems = [], {}
    for name in names:
        try:
            answers.append(last_of(session.steps(question, name, parameters[name], source)))
        except CoreError as exc:
            problems[name] = str(exc)
    if not answers:
        raise BadInput(" ".join(problems.values()) or "Name at least one method to compare.")
    return SideBySide(answers, problems, shared=shared)


@overload
def predict(  # type: ignore[overload-overlap]
    model: Model,
    image: list[Any] | tuple[Any, ...],
    *,
    top: int = ...,
    framing: str | Sequence[float] = ...,
    **description: Unpack[ModuleDescription],
) -> list[tuple[ClassScore, ...]]: ...
@overload
def predict(
    model: Model,
    image: object,
    *,
    top: int = ...,
    framing: str | Sequence[float] = ...,
    **description: Unpack[ModuleDescription],
) -> tuple[ClassScore, ...]: ...
def predict(
    model: Model,
    image: Any,
    *,
    top: int = 5,
    framing: str | Sequence[float] = "network",
    size: Size | None = None,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    labels: Labels = (),
    output: str | int | None = None,
    unit: str | None = None,
) -> Any:
    """Return the most probable classes, best first, each with index, label, probability and logit.

    Args:
        model: As for `explain`, and so are the others.
        image: One image, or a list, which gives a list.
        top: How many classes.
        framing: "network", "whole" or a part, as in `explain`.
        size: Input of a module.
        mean: Normalisation of a module's input.
        std: Likewise.
        labels: Of a module's classes.
        output: Of a module with several outputs, the name or number of the one to explain.
        unit: Of a module whose output is one number and no score, as in "years".

    Raises:
        CoreError: What is wrong, and what to do.
    """
    images, is_list = images_of(image)
    session = _Session.of(model, images, ModuleHint.of(size, mean, std, labels, output, unit))
    answers = []
    for item in images:
        question, _ = session.question(item, None, None, "logit", 0, framing)
        answers.append(session.engine.predict(question, top=top).classes)
    return answers if is_list else answers[0]


def methods(
    model: Model | None = None,
    *,
    size: Size | None = None,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    labels: Labels = (),
    output: str | int | None = None,
    unit: str | None = None,
) -> MethodNames:
    """Return the names of all methods, or of those that can be used on a network.

    Args:
        model: As for `explain`, and so are the others; None for all methods.

    Raises:
        CoreError: The model is unknown, or cannot be loaded.
    """
    engine = _shared_engine()
    reasons: Mapping[str, str] = {}
    if model is not None:
        backbone = load_model(
            model, size=size, mean=mean, std=std, labels=labels, output=output, unit=unit
        )
        reasons = _engine_of(backbone).unavailable(backbone.name)
    names = MethodNames(name for name in engine.registry.entries if name not in reasons)
    names.unavailable = MappingProxyType(dict(reasons))
    return names


def models(pattern: str = "") -> list[str]:
    """Return the local checkpoints and timm's pretrained names that match.

    Args:
        pattern: Part of a name, or a pattern with *.

    Raises:
        UnknownName: None does; close names are offered.
    """
    return find_models(pattern)


def load_model(
    model: Model,
    *,
    size: Size | None = None,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    labels: Labels = (),
    output: str | int | None = None,
    unit: str | None = None,
) -> Backbone:
    """Return a network, loaded and probed once, which all functions here take as a model.

    Args:
        model: A model's name, the folder of a checkpoint (a `Path`), a function from inputs to
            scores, or any `nn.Module`, which is copied as it is now: what is trained later does not
            reach the copy.
        size: Input of a module: (height, width), or one number for a square.
        mean: Normalisation of a module's input, per channel or one for all, of values in 0 to 1.
        std: Likewise.
        labels: Of a module's classes.
        output: Of a module with several outputs, the name or number of the one to explain.
        unit: Of a module whose output is one number and no score, as in "years".

    Raises:
        CoreError: What is wrong, and what to do.
    """
    return _load(_as_module(model), ModuleHint.of(size, mean, std, labels, output, unit))


@cache
def _shared_engine() -> Engine:
    return Engine()


def _engine_of(backbone: Backbone) -> Engine:
    registry = _shared_engine().registry
    return backbone.once("whylens.api engine", lambda b: _engine(registry, b))


def _engine(registry: Registry, backbone: Backbone) -> Engine:
    # An engine of its own for every network: two may share a name.
    def loader(_name: str, _progress: ProgressCallback | None) -> Backbone:
        return backbone

    return Engine(registry, loader=loader)


def _as_module(model: Any) -> Any:
    # Of a function only answers are known: no layers and no gradients.
    is_module = isinstance(model, nn.Module | Backbone | type)
    return BlackBox(model) if callable(model) and not is_module else model


def _load(model: Model, hint: ModuleHint) -> Backbone:
    if not isinstance(model, nn.Module | Backbone | str | os.PathLike):
        raise BadInput(no_model_words(model))
    if isinstance(model, nn.Module):
        with torch.inference_mode(False):  # else its weights could never take part in gradients
            return backbone_of(model, hint).prepare()
    backbone = _loaded_by_name(model)
    if hint.known:
        raise BadInput(
            "size=, mean=, std=, labels=, output= and unit= describe an nn.Module; this model has "
            "them."
        )
    return backbone


def _loaded_by_name(model: str | os.PathLike[str] | Backbone) -> Backbone:
    if isinstance(model, Backbone):
        return model
    if isinstance(model, str):
        return _shared_engine().backbone(model)
    if is_transformers_path(str(model)) or Path(model).is_file():
        return load(str(model)).prepare()  # of a file it says what to make of it
    return from_folder(Path(model)).prepare()


def _loaded_for(
    function: Callable[[Any], torch.Tensor], model: Model, hint: ModuleHint
) -> tuple[Backbone, Callable[[torch.Tensor], torch.Tensor]]:
    """Return a network and the function of its (N, C) logits that is `function` of its outputs."""
    try:
        backbone = _load(model, hint)
    except BadArtifact:
        if not isinstance(model, nn.Module):
            raise
    else:
        whole = backbone.identity.output is None and not isinstance(backbone.module, ClassScores)
        if whole or hint.output is not None or not isinstance(model, nn.Module):
            return backbone, function

    def value(scores: torch.Tensor) -> torch.Tensor:
        return scores[:, 0]

    # It gives something else than (N, C) scores, of which the function alone makes numbers.
    value.__name__ = function_name(function)
    hint = replace(hint, labels=(), unit=None)
    return _load(FunctionOfOutputs(model, function), hint), value


def _name(method: Method) -> str:
    if isinstance(method, type) and issubclass(method, Explainer):
        raise InvalidParameter(
            f"{method.__name__} is a class; give an instance: {method.__name__}()."
        )
    if not isinstance(method, str) and not hasattr(method, "name"):
        raise InvalidParameter(
            "A method is a name of `whylens.methods()` or an Explainer, not a "
            f"{type(method).__name__}; several are asked by `whylens.compare`."
        )
    return method if isinstance(method, str) else str(getattr(method, "name", method))


@dataclass(frozen=True)
class _Session:
    """A network, what answers for it, and a function of its outputs that is asked for, if any."""

    backbone: Backbone
    engine: Engine
    function: Callable[[torch.Tensor], torch.Tensor] | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        images: Sequence[Any],
        hint: ModuleHint,
        target: Target | None = None,
    ) -> _Session:
        model = _as_module(model)
        if isinstance(model, nn.Module) and images:
            hint = replace(hint, shape=shape_of(images, hint.size))
        if callable(target):
            backbone, target = _loaded_for(target, model, hint)
            return cls(backbone, _engine_of(backbone), target)
        backbone = _load(model, hint)
        return cls(backbone, _engine_of(backbone))

    def with_method(self, method: Method) -> _Session:
        """Return this with `method` among the methods; a name must be there already."""
        name = _name(method)
        if isinstance(method, str):
            self.engine.registry.explainer(name)
            return self
        wrong = contract_errors(method)
        if wrong or not isinstance(method, Explainer):
            raise InvalidParameter(" ".join(wrong))
        if self.engine.registry.explainers.get(name) is method:
            return self
        entry = Entry(method, type(method).__module__, "given in Python", "")
        entries = MappingProxyType({**self.engine.registry.entries, name: entry})
        engine = _engine(replace(self.engine.registry, entries=entries), self.backbone)
        return replace(self, engine=engine)

    def params(self, method: Method, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the parameters if the method knows the names of all."""
        explainer = self.engine.registry.explainer(_name(method))
        fields = explainer.Params.model_fields
        for name in params:
            if name not in fields:
                matches = difflib.get_close_matches(name, [*fields, *_KEYWORDS], n=1)
                hint = f" Did you mean {matches[0]}=?" if matches else ""
                raise InvalidParameter(
                    f"{explainer.title} has no parameter {name!r}.{hint} It has: "
                    f"{', '.join(fields) or 'none'}."
                )
        return params

    def question(
        self,
        image: Any,
        target: Target | None,
        versus: int | str | None,
        quantity: Quantity,
        seed: int,
        framing: str | Sequence[float],
    ) -> tuple[Question, str]:
        """Return the engine's question and the input's file name."""
        input_spec, labels = self.backbone.input_spec, self.backbone.labels
        if callable(target):
            if versus is not None or quantity != "logit":
                raise BadInput("A function is explained as it is: leave versus= and quantity= out.")
            target = None
        try:
            seed = operator.index(seed)
        except TypeError as exc:
            raise InvalidParameter(f"seed= is a whole number, not {seed!r}.") from exc
        if versus is not None:
            if quantity == "probability":
                raise BadInput("A contrast is one of logits: give versus= or quantity=, not both.")
            quantity = "contrast"
        fields: dict[str, Any] = {
            "model": self.backbone.name,
            "target": _class(target, labels),
            "versus": _class(versus, labels),
            "quantity": quantity,
            "seed": seed,
        }
        source = Path(image).name if isinstance(image, str | os.PathLike) else ""
        if reads_photos(input_spec):
            photo = replace(to_photo(image), framing=parse_framing(framing))
            return Question(photo=photo, **fields), source
        signal, notes = read_channels(image, input_spec)
        return Question(signal=signal, signal_notes=notes, **fields), source

    def steps(
        self,
        question: Question,
        method: Method,
        params: Mapping[str, Any],
        source: str,
    ) -> Generator[Why]:
        """Yield the answers."""
        prediction: ClassScore = self.engine.predict(question, top=1).classes[0]
        name = _name(method)
        for answer in self.engine.explain(question, name, params, function=self.function):
            yield Why(answer, prediction, source, self.engine.judge)


_KEYWORDS = (
    "target",
    "versus",
    "quantity",
    "seed",
    "framing",
    "size",
    "mean",
    "std",
    "labels",
    "output",
    "unit",
)


def _class(value: int | str | None, labels: tuple[str, ...]) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        return class_index(value, labels)
    try:
        index = operator.index(value)
    except TypeError as exc:
        raise BadInput(
            f"A class is an index or a label, not {value!r}; explain one class at a time."
        ) from exc
    if isinstance(value, bool) or not 0 <= index < len(labels):
        raise BadInput(f"The model has classes 0 to {len(labels) - 1}; there is no {value}.")
    return index
