"""From a file of weights to a checkpoint: everything that disagrees is said at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from whylens.core.errors import NETWORK_ERRORS, BadArtifact, BadInput
from whylens.core.inputs.photo import Photo
from whylens.core.inputs.preprocess import photo_tensor
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.architectures import Fit, best_level, build_shapes, find_fits
from whylens.core.models.backbone import Backbone
from whylens.core.models.black_box import ONNX, OnnxNetwork
from whylens.core.models.checkpoints import (
    IMAGENET_CLASSES,
    MANIFEST,
    Argument,
    checkpoint_folders,
    write_checkpoint,
)
from whylens.core.models.import_options import (
    Findings,
    ImportOptions,
    check_new,
    new_folder,
    open_photo,
    stated_input,
)
from whylens.core.models.label_files import read_labels
from whylens.core.models.labels import IMAGENET
from whylens.core.models.load import build, from_folder, timm_spec, torchvision_spec
from whylens.core.models.probabilities import LABEL_KINDS, Reading, read_scores
from whylens.core.models.state_dicts import AVERAGES, StateDict, read_state_dict
from whylens.core.storage.files import sync_folder
from whylens.core.targets import ClassScore, class_scores
from whylens.core.words import are, number_of, percent

TOP = 5
_NAMES_SHOWN = 3
# Guesses whose entropy is more than this share of that of chance say nothing; of so few classes
# that cannot be told.
_ALIKE, _FEWEST_TO_TELL = 0.95, 20


@dataclass(frozen=True, slots=True)
class _Network:
    """A network that a file is of, as far as it could be found out.

    Attributes:
        arguments: As in a manifest.
        classes: None where not known.
        weights: By name, or the content of an ONNX file; None where something disagrees.
        input_spec: How it is fed; None where that cannot be said.
    """

    architecture: str
    arguments: Mapping[str, Argument]
    classes: int | None
    weights: Mapping[str, Tensor] | bytes | None
    input_spec: InputSpec | None


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A checkpoint that was made of a file of weights.

    Attributes:
        folder: Where it lies.
        model: What `--model` takes for it: its name, or the folder where no search finds it.
        predictions: The most probable classes for the photo, or its value.
        notes: What was found out or assumed, a sentence each.
        backbone: The network.
    """

    folder: Path
    model: str
    predictions: tuple[ClassScore, ...]
    notes: tuple[str, ...]
    backbone: Backbone


def import_weights(options: ImportOptions) -> ImportedModel:
    """Return the checkpoint made of a file of weights, after it has proved itself on a photo.

    Raises:
        BadInput: Something disagrees; everything that does is in the message, with its remedy.
        BadArtifact: The network cannot be used, though everything agrees.
    """
    findings = Findings()
    folder = findings.attempt(lambda: new_folder(options))
    labels = findings.attempt(lambda: read_labels(options.labels))
    photo = findings.attempt(lambda: open_photo(options.photo))
    input_options = stated_input(options, findings)
    is_onnx = options.file.suffix.lower() == f".{ONNX}"
    network = (_onnx_network if is_onnx else _torch_network)(options, input_options, findings)
    classes = None if network is None else network.classes
    labels = _check_labels(labels, classes, findings, value=options.outputs == "value")
    if findings.problems or folder is None or photo is None or network is None:
        raise BadInput(_as_list(options.file.name, findings.problems))
    assert network.input_spec is not None  # noqa: S101 - or there were a problem
    assert network.weights is not None  # noqa: S101 - likewise
    description = {
        "architecture": network.architecture,
        "arguments": dict(network.arguments),
        **network.input_spec.model_dump(exclude={"size", "channels", "detail"}),
        "input_size": network.input_spec.size,
        "labels": labels,
        "outputs": options.outputs,
        "unit": options.unit,
        "licence": options.licence,
        "note": f"Imported from {options.file.name}.",
    }
    return _write(folder, network.weights, description, photo, tuple(findings.notes))


def _write(
    folder: Path,
    weights: Mapping[str, Tensor] | bytes,
    description: dict[str, Any],
    photo: Photo,
    notes: tuple[str, ...],
) -> ImportedModel:
    # It proves itself in a folder of its own: what fails leaves nothing, and touches nothing that
    # lies where it was to be. On the same disk, so that moving it is a rename.
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = folder if folder.is_dir() else folder.parent
    with TemporaryDirectory(dir=place, prefix=f".{folder.name}-") as temporary:
        proven = Path(temporary) / folder.name
        write_checkpoint(proven, weights, description)
        backbone = from_folder(proven)
        logits = _predict(backbone, photo)
        best = class_scores(logits, backbone.labels, backbone.outputs, backbone.unit, top=TOP)
        check_new(folder)  # again: the proof may have taken minutes
        _move(proven, folder)
    backbone = replace(backbone, identity=replace(backbone.identity, folder=folder))
    notes += _doubts(backbone, logits)
    checkpoint = checkpoint_folders().get(folder.name)
    by_name = checkpoint is not None and checkpoint.resolve() == folder.resolve()
    return ImportedModel(folder, folder.name if by_name else str(folder), best, notes, backbone)


def _move(source: Path, folder: Path) -> None:
    """Move a checkpoint to a folder in which none of its files are, all of it or nothing."""
    if not folder.is_dir():
        source.rename(folder)
        sync_folder(folder.parent)
        return
    with ExitStack() as undo:
        # The description last: without it nobody takes the weights for a model.
        for path in sorted(source.iterdir(), key=lambda path: path.name == MANIFEST):
            undo.callback(path.rename(folder / path.name).unlink)
        undo.pop_all()
    sync_folder(folder)


def _predict(backbone: Backbone, photo: Photo) -> Tensor:
    """Return the logits of a photo."""
    x, _ = photo_tensor(photo, backbone.input_spec)
    with torch.no_grad():
        logits = backbone.logits(x)[0]
    if not bool(logits.isfinite().all()):
        raise BadArtifact("Its scores for the photo are not finite. Its weights are of no use.")
    return logits


def _doubts(backbone: Backbone, logits: Tensor) -> tuple[str, ...]:
    """Return what makes one doubt what it says of the photo."""
    classes = len(logits)
    if backbone.outputs != "classes" or classes < _FEWEST_TO_TELL:
        return ()
    probabilities = logits.double().softmax(0)
    entropy, top = torch.special.entr(probabilities).sum(), float(probabilities.max())
    if entropy < _ALIKE * math.log(classes):
        return ()
    return (
        f"Its guesses for the photo are nearly as wide as chance: {percent(top, 1)} "
        f"at most, of {classes:,} classes. If it was trained, it was fed otherwise: give --size, "
        "--mean and --std as its training had them.",
    )


def _as_list(name: str, problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    items = "\n".join(f"- {problem}" for problem in problems)
    return f"{name} cannot be imported; {len(problems)} things disagree:\n{items}"


# --- what the file says ---------------------------------------------------------------------------


def _fit(
    options: ImportOptions, size: tuple[int, int] | None, findings: Findings
) -> tuple[Fit | None, dict[str, Tensor]]:
    state = findings.attempt(lambda: read_state_dict(options.file))
    if state is None:
        return None, {}
    if options.architecture is not None:
        architecture = options.architecture
        pair = findings.attempt(lambda: best_level(architecture, state.levels))
        if pair is None:
            return None, {}
    else:
        pair = _guess(options, state, findings)
        if pair is None:
            return None, {}
    level, fit = pair
    tensors = state.levels[level]
    _note_names(state, level, fit, findings)
    _list_faults(options, fit, size, tensors, findings)
    return fit, tensors


def _guess(options: ImportOptions, state: StateDict, findings: Findings) -> tuple[int, Fit] | None:
    hints = (options.file.stem, options.file.resolve().parent.name, *state.hints)
    fits = find_fits(state.levels, hints)
    if not fits:
        findings.problems.append(
            "Its tensors are those of no architecture of timm or torchvision that is known here "
            f"(it holds {_some(tuple(state.levels[0]))}). Give --architecture if you know "
            "better; a network of your own class is explained in Python: "
            "whylens.explain(model, ...)."
        )
        return None
    level, best = fits[0]
    count = len(state.levels[level])
    if best.exact:
        rest = [fit.architecture for _, fit in fits[1:]]
        note = (
            f"It is a {best.architecture}: all its {count} tensors have that one's names and "
            "shapes."
        )
        if rest:
            note += (
                f" So have {_some(tuple(rest))}, which may compute something else; if it is one "
                "of them, give --architecture."
            )
        findings.notes.append(note)
    else:
        findings.problems.append(
            f"Its architecture is not certain: {best.architecture} comes closest, with "
            f"{percent(best.shared)} of the tensors alike. Give --architecture if it is another; "
            "what disagrees with this one follows."
        )
    return level, best


def _note_names(state: StateDict, level: int, fit: Fit, findings: Findings) -> None:
    if state.wrapper:
        average = any(word in state.wrapper for word in AVERAGES)
        remark = " (the averaged weights)" if average else ""
        findings.notes.append(f"The weights were taken from {state.wrapper!r}{remark}.")
    if level:
        first, last = next(iter(state.levels[0])), next(iter(state.levels[level]))
        prefix = first.removesuffix(last)
        unprefixed_names = sorted(state.levels[0].keys() & state.levels[level].keys())
        note = f"The prefix {prefix!r} was taken off the names."
        if unprefixed_names and fit.exact:
            note += f" What carried none was left out: {_some(tuple(unprefixed_names))}."
        findings.notes.append(note)


def _list_faults(
    options: ImportOptions,
    fit: Fit,
    size: tuple[int, int] | None,
    tensors: dict[str, Tensor],
    findings: Findings,
) -> None:
    name, problems = fit.architecture, findings.problems
    remedy = (
        "Give the --architecture it was trained as."
        if options.architecture is not None
        else "Give its --architecture."
    )
    if fit.missing:
        problems.append(f"{_count(fit.missing)} of {name} missing: {_some(fit.missing)}. {remedy}")
    if fit.unexpected:
        problems.append(
            f"{_count(fit.unexpected)} unknown to {name}: {_some(fit.unexpected)}. {remedy}"
        )
    if head := _renamed_head(fit, tensors):
        head_name, file_head = head
        problems.append(
            f"{file_head} may be its classifier under another name. If nothing but dropout stands "
            "between it and the features, rename it, in Python:\n"
            f"  for part in ('weight', 'bias'):\n"
            f"      weights['{head_name}.' + part] = weights.pop('{file_head}.' + part)\n"
            '  torch.save(weights, "weights.pth")'
        )
    if fit.misshapen:
        shapes = tuple(
            f"{key} is {_shape(actual)}, not {_shape(own)}" for key, own, actual in fit.misshapen
        )
        problems.append(f"{_count(fit.misshapen)} of another shape: {_some(shapes)}. {remedy}")
    if fit.classes is None and not fit.missing:
        problems.append(f"No layer of it gives one score per class as the head of {name} does.")
    side = fit.arguments.get("img_size") or fit.arguments.get("image_size")
    if size is not None and side is not None and size != (side, side):
        problems.append(
            f"Its position embeddings are those of inputs of {side} x {side}, not "
            f"{size[0]} x {size[1]}. Leave --size away, or give --size {side}."
        )
    bad = tuple(
        key
        for key, t in tensors.items()
        # As 32 bits: of floats of 8, torch cannot tell.
        if t.is_floating_point() and not t.float().isfinite().all()
    )
    if bad:
        problems.append(
            f"{_count(bad)} with values that are not finite: {_some(bad)}. Such a training "
            "diverged; take an earlier checkpoint of it."
        )


def _renamed_head(fit: Fit, tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return the name of an architecture's head and that of the one layer the file has for it."""
    names = [
        {key.rpartition(".")[0] for key in keys if key.endswith((".weight", ".bias"))}
        for keys in (fit.missing, fit.unexpected)
    ]
    pairs = (len(fit.missing), len(fit.unexpected)) == (2, 2)
    if not pairs or any(len(layers) != 1 for layers in names) or fit.misshapen:
        return None
    head, file_head = (layers.pop() for layers in names)
    weight = tensors.get(f"{file_head}.weight")
    return (head, file_head) if weight is not None and weight.ndim == 2 else None


def _check_labels(
    labels: tuple[str, ...] | str | None, classes: int | None, findings: Findings, *, value: bool
) -> tuple[str, ...] | str:
    if classes is None:
        return labels or ()
    if value and classes != 1:
        findings.problems.append(
            f"Its head gives {classes} scores, and --value reads one number. Leave --value out if "
            "they are of classes; in Python, target= takes any function of several numbers."
        )
        return labels or ()
    if labels is None:
        if value:
            return ("value",)
        if classes == IMAGENET_CLASSES:
            findings.notes.append(
                "1,000 classes: ImageNet's names were assumed. Give --labels if they are others."
            )
            return IMAGENET
        if classes == 1:
            findings.notes.append("Its single score is of 'yes'; --labels names what it is of.")
            return ("yes",)
        findings.notes.append(f"Its {classes} classes have numbers for names; --labels names them.")
        return tuple(f"class {i}" for i in range(classes))
    count = IMAGENET_CLASSES if isinstance(labels, str) else len(labels)
    if count != classes:
        findings.problems.append(
            f"Its head gives {number_of(classes, 'score')}, but there "
            f"{are(count)} {number_of(count, 'label')}. Give --labels with one "
            "for each class, in the order of the training."
        )
    return labels


# --- the network ----------------------------------------------------------------------------------


def _torch_network(
    options: ImportOptions, input_options: dict[str, Any], findings: Findings
) -> _Network | None:
    fit, tensors = _fit(options, input_options.get("size"), findings)
    if fit is None:
        return None
    input_spec = _spec(fit, input_options, findings)
    network = _Network(fit.architecture, fit.arguments, fit.classes, None, input_spec)
    if not fit.exact or fit.classes is None or input_spec is None:
        return network
    classes, arguments = fit.classes, dict(fit.arguments)
    module = findings.attempt(lambda: build(fit.architecture, classes=classes, arguments=arguments))
    if module is None:
        return network
    own = module.state_dict()
    module.load_state_dict({**own, **{k: v for k, v in tensors.items() if k in own}})
    if _scores(module, input_spec, fit.architecture, findings) is None:
        return network
    return replace(network, weights=module.state_dict())


def _onnx_network(
    options: ImportOptions, input_options: dict[str, Any], findings: Findings
) -> _Network | None:
    name, problems = options.file.name, findings.problems
    module = findings.attempt(lambda: OnnxNetwork(options.file, output=options.output or ""))
    if module is None:
        return None
    if options.architecture not in (None, ONNX):
        problems.append("An ONNX file holds its own network. Leave --architecture out.")
    if len(module.scores) > 1 and options.output is None:
        problems.append(
            f"It has several outputs that may be meant: {', '.join(module.scores)}. Give --output."
        )
    if module.size is not None:
        own = module.size
        if input_options.get("size", own) != own:
            problems.append(
                f"It reads inputs of {own[0]} x {own[1]} and no others. Leave --size away."
            )
        input_options = {**input_options, "size": own}
    fields = InputSpec(size=input_options.get("size", (224, 224))).model_dump()
    input_spec = _complete_spec(
        fields, module.channels or 3, input_options, findings, "most networks are fed"
    )
    if input_spec is None or (scores := _scores(module, input_spec, name, findings)) is None:
        return _Network(ONNX, {}, None, None, input_spec)
    arguments: dict[str, Argument] = {"output": module.output} if options.output else {}
    kind, note = Reading(None, "")
    if options.outputs != "value":
        kind, note = read_scores(module, scores, input_spec)
    if kind is not None:
        arguments["probabilities"] = True if kind == "softmax" else kind
    findings.notes += [note] if note else []
    if kind in LABEL_KINDS and scores.shape[1] > 1 and options.outputs == "classes":
        findings.problems.append(
            "Each of its scores is a probability of its own. Give --outputs labels."
        )
    return _Network(ONNX, arguments, scores.shape[1], options.file.read_bytes(), input_spec)


def _scores(
    module: nn.Module, input_spec: InputSpec, name: str, findings: Findings
) -> Tensor | None:
    try:
        with torch.no_grad():
            scores: Tensor = module(probe_inputs(input_spec))
    except NETWORK_ERRORS as exc:
        reason = " ".join(str(exc).split())[:120]
        size = " x ".join(map(str, input_spec.size))
        findings.problems.append(
            f"{name} cannot be fed photos of {size} ({reason}). Give another --size."
        )
        return None
    return scores


def _spec(fit: Fit, input_options: dict[str, Any], findings: Findings) -> InputSpec | None:
    source, _, name = fit.architecture.partition(":")
    if source == "torchvision":
        assumed = torchvision_spec(name)
    elif source == "fastai":  # its `Resize` cuts off nothing of the shorter side
        assumed = torchvision_spec(name).model_copy(update={"crop": 1.0})
    else:
        module = build_shapes(fit.architecture, classes=2, arguments=fit.arguments)
        source, assumed = "timm", timm_spec(module, use_test_size=False)
    fields = assumed.model_dump()
    side = fit.arguments.get("img_size") or fit.arguments.get("image_size")
    if side is not None:
        fields["size"] = (side, side)
    channels = fit.arguments.get("in_chans")
    channels = channels if isinstance(channels, int) else assumed.channels
    origin = f"{source} feeds {fit.architecture}"
    return _complete_spec(fields, channels, input_options, findings, origin)


def _complete_spec(
    fields: dict[str, Any],
    channels: int,
    input_options: dict[str, Any],
    findings: Findings,
    origin: str,
) -> InputSpec | None:
    """Return how a network is fed, by what was stated and else assumed, which becomes a note.

    Args:
        fields: Assumed ones, of an `InputSpec`.
        origin: Whose they are, in words.
    """
    if channels != len(fields["mean"]):
        for name in ("mean", "std"):
            values = fields[name]
            fields[name] = (sum(values) / len(values),) * channels
    for name in ("mean", "std"):
        if name in input_options and len(input_options[name]) == 1:
            input_options = {**input_options, name: input_options[name] * channels}
        count = len(input_options.get(name, fields[name]))
        if count != channels:
            findings.problems.append(
                f"--{name} has {number_of(count, 'value')}, but the first layer reads "
                f"{number_of(channels, 'channel')}. Give "
                "one value, or one for each."
            )
    if min(input_options.get("std", (1.0,))) <= 0:
        findings.problems.append("--std has a value that is not positive. Leave it out if unsure.")
    try:
        input_spec = InputSpec.model_validate({**fields, **input_options, "channels": channels})
    except ValidationError as exc:
        # Errors of no single field were listed above.
        findings.problems.extend(
            f"--{error['loc'][0]} cannot be used: {error['msg']}."
            for error in exc.errors()
            if error["loc"]
        )
        findings.problems.extend(
            error["msg"].removeprefix("Value error, ").capitalize() + "."
            for error in exc.errors()
            if "divide" in error["msg"]
        )
        return None
    assumptions = [
        name
        for name in ("size", "mean", "std", "crop", "interpolation")
        if name not in input_options
    ]
    if assumptions:
        values = {
            "size": f"size {' x '.join(map(str, input_spec.size))}",
            "mean": f"mean {_numbers(input_spec.mean)}",
            "std": f"std {_numbers(input_spec.std)}",
            "crop": f"crop {input_spec.crop:g}",
            "interpolation": f"interpolation {input_spec.interpolation}",
        }
        findings.notes.append(
            f"Assumed, as {origin}: "
            f"{', '.join(values[name] for name in assumptions)}. If it was trained otherwise, give "
            f"{', '.join('--' + name for name in assumptions)}."
        )
    return input_spec


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _count(items: tuple[Any, ...]) -> str:
    return number_of(len(items), "tensor")


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
