"""From a name to a probed backbone; the only place that builds networks."""

from __future__ import annotations

import pickle
import re
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import nn

from whylens.core.errors import (
    NETWORK_ERRORS,
    BadArtifact,
    CoreError,
    NotAllowed,
    UnknownName,
    WeightsUnavailable,
    quote,
)
from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models import signal_net
from whylens.core.models.backbone import Backbone, ModelSource, wrap
from whylens.core.models.black_box import ONNX, ONNX_FILE, OnnxNetwork
from whylens.core.models.checkpoints import (
    FOLDERS_VARIABLE,
    IMAGENET_CLASSES,
    WEIGHTS,
    Argument,
    CheckpointManifest,
    checkpoint_folders,
    is_checkpoint_path,
    is_transformers_path,
    misnamed_folders,
    no_checkpoint_words,
    place_problems,
    read_manifest,
    read_weights,
)
from whylens.core.models.fastai_net import PREFIX, bodies, fastai_net
from whylens.core.models.hub import (
    REMEDY,
    HubFile,
    Timeouts,
    call_with_deadline,
    download_in_child,
    hub_file,
)
from whylens.core.models.labels import IMAGENET, imagenet_1k, labels_of
from whylens.core.models.model_names import (
    REPOSITORY,
    ModelName,
    parse_model_name,
    plain_name,
)
from whylens.core.models.probabilities import KIND_NOTES, LogitReader
from whylens.core.models.random_weights import WithoutDraws, randomize_weights, shapes_only
from whylens.core.models.state_dicts import strip_prefixes
from whylens.core.models.transformers_folder import (
    from_transformers_folder,
    from_transformers_hub,
)
from whylens.core.progress import ProgressCallback
from whylens.core.storage.files import file_sha256, parameters_sha256, read_json_model

UNTRAINED_SEED = 7

_HUB_NAME = re.compile(rf"hf[-_]hub:({REPOSITORY})", re.ASCII)
# Arguments of timm's that read files or the network; a manifest describes a network, no more.
_READERS = {
    "cache_dir",
    "checkpoint_path",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
}

# What torchvision itself adds where these two are pretrained: without it they are fed wrongly.
_AS_TRAINED = {"init_weights": False, "aux_logits": True, "transform_input": True}
# torchvision's DenseNet files still carry names such as norm.1 for what is now norm1.
_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")


def load(
    name: str,
    *,
    progress: ProgressCallback | None = None,
    device: str = "cpu",
    timeouts: Timeouts | None = None,
) -> Backbone:
    """Return the network called `name`, frozen and probed.

    Args:
        name: A timm name, `torchvision:NAME`, `untrained:NAME`, `hf:OWNER/NAME` (of transformers),
            `hf-hub:OWNER/NAME` (of timm), a local checkpoint's name or the path of its folder. What
            strangers type goes through `check_public_model` first, which knows no paths.
        progress: Called with a share done (0 to 1) and a sentence while weights are fetched.

    Raises:
        UnknownName: Nothing has this name.
        NotAllowed: It is a path or an address.
        WeightsUnavailable: Its pretrained weights cannot be had.
        BadArtifact: Its files are damaged, or it does not classify.
    """
    folders = checkpoint_folders()
    timeouts = timeouts or Timeouts()
    if written_by_timm := _HUB_NAME.fullmatch(name):
        return _from_hub(written_by_timm.group(1), progress, device, timeouts)
    if name not in folders and is_checkpoint_path(name):
        return from_folder(Path(name).expanduser().resolve(), device=device)
    if name not in folders and is_transformers_path(name):
        return from_transformers_folder(Path(name).expanduser().resolve(), device=device)
    if name in (misnamed := misnamed_folders()):
        raise UnknownName(
            f"The checkpoint in {misnamed[name]} cannot be called {quote(name)}. Rename its folder "
            f"with letters, digits, dots and dashes, as to {plain_name(name)}."
        )
    try:
        parsed = parse_model_name(name, folders)
    except NotAllowed as exc:
        raise NotAllowed(" ".join([str(exc), no_checkpoint_words(name)]).strip()) from exc
    except UnknownName as exc:
        own = (
            "A network of your own is found by its folder's path, or by name where its folder lies "
            f"in one of {FOLDERS_VARIABLE}."
        )
        own = no_checkpoint_words(name) or own
        raise UnknownName(" ".join([str(exc), own, *place_problems()])) from exc
    match parsed:
        case ModelName(kind="checkpoint"):
            return from_folder(folders[name], device=device)
        case ModelName(kind="torchvision", name=architecture):
            return _from_torchvision(architecture, progress, device, timeouts)
        case ModelName(kind="hub", name=repository):
            return from_transformers_hub(
                repository, progress=progress, device=device, timeouts=timeouts
            )
        case ModelName(kind="untrained", name=architecture):
            return _load_untrained(architecture, device)
        case ModelName(name=architecture):
            return _from_timm(architecture, progress, device, timeouts)


class HubConfig(BaseModel):
    """What is read of the config.json that timm writes beside weights on the Hub.

    Attributes:
        architecture: A timm name.
        num_classes: Size of its head.
        label_names: A name per class.
        label_descriptions: A plain name for some of these.
        model_args: With which the architecture was built.
        pretrained_cfg: timm's own account of the network, its input included.
    """

    architecture: str
    num_classes: int = Field(ge=1)
    label_names: tuple[str, ...] = ()
    label_descriptions: Mapping[str, str] = {}
    model_args: Mapping[str, Argument] = {}
    pretrained_cfg: Mapping[str, Any]


def build(
    architecture: str, *, classes: int, arguments: Mapping[str, Argument] | None = None
) -> nn.Module:
    """Return an architecture without pretrained weights.

    Args:
        architecture: A timm name, `torchvision:NAME`, `fastai:NAME`, or "signal_cnn".
        classes: Number of classes.

    Raises:
        BadArtifact: It cannot be built.
    """
    import timm
    import torchvision

    if readers := _READERS & (arguments or {}).keys():
        raise BadArtifact(f"{min(readers)!r} is no part of an architecture. Leave it out.")
    own: dict[str, Callable[..., nn.Module]] = {signal_net.NAME: signal_net.SignalNet}
    own |= {PREFIX + name: partial(fastai_net, name) for name in bodies()}
    if architecture in own:
        try:
            return own[architecture](num_classes=classes, **(arguments or {})).eval()
        except NETWORK_ERRORS as exc:
            raise BadArtifact(f"The architecture {architecture!r} cannot be built: {exc}.") from exc
    try:
        parsed = parse_model_name(architecture)
    except CoreError as exc:
        raise BadArtifact(f"It is of no known architecture. {exc}") from exc
    try:
        if parsed.kind == "torchvision":
            extra = _AS_TRAINED if parsed.name in ("googlenet", "inception_v3") else {}
            module: nn.Module = torchvision.models.get_model(
                parsed.name, weights=None, num_classes=classes, **{**extra, **(arguments or {})}
            )
        else:
            module = timm.create_model(
                parsed.name, pretrained=False, num_classes=classes, **(arguments or {})
            )
        return module.eval()
    except NETWORK_ERRORS as exc:
        raise BadArtifact(f"The architecture {architecture!r} cannot be built: {exc}.") from exc


def from_folder(folder: Path, *, device: str = "cpu") -> Backbone:
    """Return the network of a checkpoint's folder: model.json, and model.safetensors or model.onnx.

    Raises:
        BadArtifact: A file is missing or damaged, or the weights do not fit the architecture.
    """
    manifest = read_manifest(folder)
    if isinstance(manifest.labels, str) and manifest.labels != IMAGENET:
        raise BadArtifact(f"{folder.name}: labels must be a list, or {IMAGENET!r}.")
    labels = imagenet_1k() if isinstance(manifest.labels, str) else manifest.labels
    if manifest.architecture == ONNX:
        module = _onnx_module(folder, manifest)
    else:
        module = _module_of(folder, manifest, len(labels))
    identity = ModelSource(
        name=folder.name,
        digest=manifest.sha256,
        licence=manifest.licence,
        source="local checkpoint",
        trained=manifest.trained,
        notes=(manifest.note,) if manifest.note else (),
        folder=folder,
    )
    return wrap(
        module.to(device),
        input_spec=manifest.input_spec(),
        labels=labels,
        identity=identity,
        outputs=manifest.outputs,
        unit=manifest.unit,
    )


def _module_of(folder: Path, manifest: CheckpointManifest, labels: int) -> nn.Module:
    """Return the network with its weights; two labels may be those of a single score."""
    levels = strip_prefixes(read_weights(folder / WEIGHTS, sha256=manifest.sha256))
    first: RuntimeError | None = None
    parameter_count = sum(value.numel() for value in levels[0].values())
    for classes in (2, 1) if labels == 2 else (labels,):
        _check_not_larger(folder.name, manifest, classes, parameter_count)
        with WithoutDraws():
            module = build(manifest.architecture, classes=classes, arguments=manifest.arguments)
        own = module.state_dict().keys()
        try:
            module.load_state_dict(max(levels, key=lambda level: len(level.keys() & own)))
        except RuntimeError as exc:
            first = first or exc
        else:
            return module
    raise BadArtifact(
        f"The weights of {folder.name} do not fit {manifest.architecture}: "
        f"{_in_words(str(first).splitlines()[-1].strip())}"
    ) from first


_MISMATCH = re.compile(
    r"size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)\.?"
)


def _in_words(problem: str) -> str:
    """Return what torch says of weights of another shape, in words."""
    match = _MISMATCH.fullmatch(problem)
    if match is None:
        return problem
    stored, expected = (shape.replace(", ", " x ") or "one number" for shape in match.groups()[1:])
    return (
        f"{match[1]} is {stored} in the file and {expected} as described. Correct the "
        "description, its arguments and labels, or give the file that belongs to it."
    )


def _check_not_larger(name: str, manifest: CheckpointManifest, classes: int, stored: int) -> None:
    # A description alone may ask for more memory than there is.
    with shapes_only():
        try:
            plan = build(manifest.architecture, classes=classes, arguments=manifest.arguments)
        except BadArtifact:  # said where it is built, or no more than that it needs numbers for it
            return
    count = sum(value.numel() for value in plan.state_dict().values())
    if count > 2 * stored + 1_000_000:
        raise BadArtifact(
            f"The weights of {name} do not fit {manifest.architecture}: {stored:,} numbers are "
            f"stored, and it has {count:,}."
        )


def _onnx_module(folder: Path, manifest: CheckpointManifest) -> nn.Module:
    arguments = dict(manifest.arguments)
    output, probabilities = arguments.pop("output", ""), arguments.pop("probabilities", False)
    if arguments:
        raise BadArtifact(
            f"{folder.name}: {min(arguments)!r} says nothing of an ONNX file. Leave it out."
        )
    network = OnnxNetwork(folder / ONNX_FILE, sha256=manifest.sha256, output=str(output))
    if not probabilities:
        return network
    kind = "softmax" if probabilities is True else probabilities
    note = next((name for name in KIND_NOTES if name == kind), None)
    if note is None:
        raise BadArtifact(
            f"{folder.name}: its probabilities are true or one of {', '.join(KIND_NOTES)}, not "
            f"{kind!r}."
        )
    return LogitReader(network, note)


def _from_timm(
    name: str, progress: ProgressCallback | None, device: str, timeouts: Timeouts
) -> Backbone:
    from timm.models import get_pretrained_cfg

    if getattr(get_pretrained_cfg(name), "num_classes", None) == 0:
        raise BadArtifact(
            f"{name} was trained without classes, so there is no decision to explain. Choose a "
            "network that classifies; most names that end in in1k do."
        )
    module, identity = load_pretrained(name, progress=progress, timeouts=timeouts)
    return wrap(
        module.to(device),
        input_spec=timm_spec(module),
        labels=timm_labels(module),
        identity=identity,
    )


def pretrained_file(
    name: str, *, progress: ProgressCallback | None = None, timeouts: Timeouts | None = None
) -> HubFile:
    """Return the file of a timm network's weights, fetched if need be.

    Args:
        progress: Called with a share done (0 to 1) and a sentence while weights are fetched.

    Raises:
        WeightsUnavailable: They cannot be had.
    """
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    repo = getattr(config, "hf_hub_id", None)
    if config is None or not repo:
        raise WeightsUnavailable(
            f"timm has no pretrained weights on the Hub for {name}. Choose a name with a tag, "
            f"as `whylens models {name.split('.')[0]}` lists them."
        )
    filename = config.hf_hub_filename or "model.safetensors"
    if not filename.endswith(".safetensors"):
        raise WeightsUnavailable(
            f"The weights of {name} are not safetensors, and nothing else is loaded. Choose "
            "another tag of this model."
        )
    return hub_file(repo, filename, timeouts=timeouts or Timeouts(), progress=progress)


def load_pretrained(
    name: str,
    *,
    arguments: Mapping[str, Argument] | None = None,
    progress: ProgressCallback | None = None,
    timeouts: Timeouts | None = None,
) -> tuple[Any, ModelSource]:
    """Return a timm network with the weights of its authors, and where they are from.

    Args:
        arguments: With which it is built, as `img_size`: timm fits the weights to that.
        progress: Called with a share done (0 to 1) and a sentence while weights are fetched.

    Raises:
        WeightsUnavailable: They cannot be had.
        BadArtifact: They are damaged, or do not fit.
    """
    import timm
    from safetensors import SafetensorError
    from timm.models import get_pretrained_cfg

    file = pretrained_file(name, progress=progress, timeouts=timeouts)
    config: Any = get_pretrained_cfg(name)
    # custom_load is for the .npz files of old; on the Hub the same weights are in timm's own form.
    overlay = {"file": str(file.path), "custom_load": False}
    try:
        module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, **(arguments or {})
        )
    except (*NETWORK_ERRORS, SafetensorError) as exc:
        reason = " ".join(str(exc).split())[:200]
        raise BadArtifact(f"The weights of {name} do not fit its architecture: {reason}.") from exc
    identity = ModelSource(
        name=name,
        digest=file.sha256,
        licence=str(config.license or "not stated by its authors"),
        source=f"Hub: {config.hf_hub_id}",
    )
    return module.eval(), identity


def _from_hub(
    repo: str, progress: ProgressCallback | None, device: str, timeouts: Timeouts
) -> Backbone:
    from timm.data import resolve_data_config

    remedy = "Choose a repository that timm wrote."
    path = hub_file(repo, "config.json", timeouts=timeouts).path
    config = read_json_model(path, HubConfig, remedy)
    file = hub_file(repo, WEIGHTS, timeouts=timeouts, progress=progress)
    weights = read_weights(file.path, sha256=None)
    classes, arguments = config.num_classes, config.model_args
    # A config alone may ask for more memory than there is.
    with shapes_only():
        state = build(config.architecture, classes=classes, arguments=arguments).state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in weights.items()}:
        raise BadArtifact(f"The weights of {repo} do not fit {config.architecture}. {remedy}")
    with WithoutDraws():
        module = build(config.architecture, classes=classes, arguments=arguments)
    module.load_state_dict(weights)
    try:
        input_spec = _spec_of_config(
            resolve_data_config(pretrained_cfg=dict(config.pretrained_cfg), use_test_size=True)
        )
    except (*NETWORK_ERRORS, ValidationError) as exc:
        raise BadArtifact(f"The input that {repo} describes is impossible. {remedy}") from exc
    labels = tuple(config.label_descriptions.get(n, n) for n in config.label_names)
    if not labels and classes == IMAGENET_CLASSES:
        labels = imagenet_1k()
    identity = ModelSource(
        name=f"hf-hub:{repo}",
        digest=file.sha256,
        licence=str(config.pretrained_cfg.get("license") or "not stated by its authors"),
        source=f"Hub: {repo}",
    )
    return wrap(module.to(device), input_spec=input_spec, labels=labels, identity=identity)


def timm_labels(module: Any) -> tuple[str, ...]:
    """Return a label per class where timm pretrained the network for just these, else ()."""
    if not getattr(module, "pretrained_cfg", None):
        return ()
    labels = labels_of(module)
    return labels if len(labels) == int(module.num_classes) else ()


def timm_spec(module: Any, *, use_test_size: bool = True) -> InputSpec:
    """Return how timm feeds images to a network that it made.

    Args:
        use_test_size: Size and crop of timm's own tests, by default, or those of the training.
    """
    from timm.data import resolve_model_data_config

    return _spec_of_config(resolve_model_data_config(module, use_test_size=use_test_size))


def _spec_of_config(config: Mapping[str, Any]) -> InputSpec:
    channels, *size = config["input_size"]
    interpolation = config["interpolation"]
    return InputSpec(
        size=tuple(size),
        channels=channels,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop=config["crop_pct"],
        crop_mode=config["crop_mode"],
        interpolation="bilinear" if interpolation == "random" else interpolation,
    )


def _load_untrained(architecture: str, device: str) -> Backbone:
    module = build(architecture, classes=1000)
    input_spec = timm_spec(module)
    module = randomize_weights(module, seed=UNTRAINED_SEED, probe=probe_inputs(input_spec)).to(
        device
    )
    identity = ModelSource(
        name=f"untrained:{architecture}",
        digest=parameters_sha256(module),
        licence="none needed: random numbers",
        source=f"random weights, seed {UNTRAINED_SEED}",
        trained=False,
        notes=("Untrained: its predictions mean nothing and its maps only show the mechanics.",),
    )
    return wrap(module, input_spec=input_spec, labels=imagenet_1k(), identity=identity)


def _from_torchvision(
    architecture: str, progress: ProgressCallback | None, device: str, timeouts: Timeouts
) -> Backbone:
    import torchvision

    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    path = _torchvision_file(weights.url, progress, timeouts)
    module = build(f"torchvision:{architecture}", classes=len(weights.meta["categories"]))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict({_OLD_DENSENET.sub(r"\1\2", k): v for k, v in state.items()})
    except (*NETWORK_ERRORS, pickle.UnpicklingError) as exc:
        raise BadArtifact(f"The weights of torchvision:{architecture} do not fit it.") from exc
    identity = ModelSource(
        name=f"torchvision:{architecture}",
        digest=file_sha256(path),
        licence="BSD-3-Clause (torchvision); check the data's own terms",
        source=f"torchvision {weights.name}",
    )
    labels = tuple(weights.meta["categories"])
    return wrap(
        module.to(device),
        input_spec=torchvision_spec(architecture),
        labels=labels,
        identity=identity,
    )


def torchvision_spec(architecture: str) -> InputSpec:
    """Return how torchvision feeds images to its pretrained network of this architecture."""
    import torchvision

    preset = torchvision.models.get_model_weights(architecture).DEFAULT.transforms()
    size, resize = tuple(preset.crop_size * 2)[:2], preset.resize_size[0]
    return InputSpec(
        size=size,
        channels=3,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        crop=min(1.0, size[0] / resize),
        interpolation=preset.interpolation.value,
    )


def _torchvision_file(url: str, progress: ProgressCallback | None, timeouts: Timeouts) -> Path:
    # torchvision's files are pickles named after the first digits of their sha256; they are read
    # with weights_only, after that check.
    name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    promised = re.search(r"-([0-9a-f]{8,})\.", name)
    if promised is None:
        raise WeightsUnavailable(f"{name} carries no hash to check, so it is not loaded.")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            size = call_with_deadline(
                timeouts.probe + 0.5, lambda: _content_length(url, timeouts.probe)
            )
        except (OSError, ValueError) as exc:
            raise WeightsUnavailable(
                f"torchvision's server cannot be reached, and {name} is not on this disk. {REMEDY}"
            ) from exc
        download_in_child(
            "import sys, torch; print(flush=True);"
            "torch.hub.download_url_to_file(*sys.argv[1:4], progress=False); print(sys.argv[2])",
            [url, str(path), promised.group(1)],
            what=name,
            into=path.parent,
            size=size,
            timeouts=timeouts,
            progress=progress,
        )
    if not file_sha256(path).startswith(promised.group(1)):
        path.unlink(missing_ok=True)
        raise BadArtifact(f"{name} arrived damaged and was deleted. Try again.")
    return path


def _content_length(url: str, seconds: float) -> int:
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - torchvision's own table
    with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310
        return int(response.headers.get("Content-Length", 0))
