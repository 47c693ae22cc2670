"""Networks learn, go on where they were stopped, and are whole at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.pictures import SLIM, Colours
from tests.support.quick import some_quick
from whylens.core.errors import BadArtifact, BadInput, WeightsUnavailable
from whylens.core.inputs.preprocess import normalize
from whylens.core.models.checkpoints import read_manifest
from whylens.core.models.load import from_folder
from whylens.core.train import head
from whylens.core.train.augment import random_views
from whylens.core.train.checkpointing import read_log
from whylens.core.train.data_init import clearly_best
from whylens.core.train.network import RandomState, build_network
from whylens.core.train.optimise import (
    class_weights,
    make_optimiser,
    schedule,
    train_step,
    update_average,
    weighted_loss,
)
from whylens.core.train.pictures import Frames, cache_images, cache_spec, load_batch
from whylens.core.train.recipe import Recipe, read_recipe
from whylens.core.train.report import read_report
from whylens.core.train.run import train

ROOT = Path(__file__).resolve().parents[2]
QUICK = Recipe(backbone="resnet18", arguments=SLIM, size=32, batch=16, epochs=6, lr=0.05)


def trained(out, *, dataset=None, recipe=QUICK, **kwargs):
    return list(train(dataset or Colours(), recipe, out, **kwargs))


@pytest.fixture(scope="module")
def colours_net(tmp_path_factory):
    """A network that was trained on colours without a break, and its steps."""
    out = tmp_path_factory.mktemp("trained") / "colours"
    return out, trained(out)


def test_colours_are_learnt_and_the_page_can_load_the_network(colours_net):
    out, steps = colours_net
    report = read_report(out)
    assert report.val.accuracy == report.test.accuracy == 1.0
    backbone = from_folder(out)
    assert backbone.labels == ("red", "blue")
    dataset = Colours()
    x = torch.from_numpy(load_batch(dataset, dataset.of("test"), backbone.input_spec)).permute(
        0, 3, 1, 2
    )
    predicted_classes = backbone.logits(normalize(x / 255, backbone.input_spec)).argmax(1).tolist()
    assert predicted_classes == [dataset.items[i].label for i in dataset.of("test")]
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {step.epoch for step in steps if "loss" in step.figures} == set(range(1, 7))


@pytest.mark.slow  # a resumed training ends at the same bits, below
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    hashes = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"{number}"
        trained(out, recipe=QUICK.model_copy(update={"epochs": 2, "seed": seed}))
        hashes.append(read_manifest(out).sha256)
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, marks=pytest.mark.slow),  # the other keeps all of this, and more
        {"optimiser": "adamw", "lr": 0.003, "ema": 0.9, "whiten": True},
    ],
)
def test_a_resumed_training_ends_at_the_same_bits(tmp_path, change):
    recipe = QUICK.model_copy(update={"epochs": 3, **change})
    trained(tmp_path / "whole", recipe=recipe)
    work = train(Colours(), recipe, tmp_path / "parts")
    next(step for step in work if step.epoch == 2 and "val_loss" not in step.figures)
    work.close()
    assert [e.epoch for e in read_log(tmp_path / "parts").epochs] == [1]
    trained(tmp_path / "parts", recipe=recipe, resume=True)
    whole, parts = (load_file(tmp_path / n / "training.safetensors") for n in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    shas = {read_manifest(tmp_path / name).sha256 for name in ("whole", "parts")}
    assert len(shas) == 1
    assert any(key.startswith("average.") for key in whole) == ("ema" in change)


def test_training_leaves_the_global_random_numbers_and_threads_alone(tmp_path):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    trained(tmp_path / "m", recipe=QUICK.model_copy(update={"epochs": 1, "threads": 1}))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_closing_keeps_the_best_so_far(tmp_path):
    work = train(Colours(), QUICK, tmp_path / "m")
    next(step for step in work if step.epoch == 3)
    work.close()
    log = read_log(tmp_path / "m")
    assert [e.epoch for e in log.epochs] == [1, 2]
    best = max(log.epochs, key=lambda e: e.sort_key)
    assert log.best == best.epoch
    assert from_folder(tmp_path / "m").labels == ("red", "blue")


def test_the_best_epoch_is_kept_although_later_ones_are_worse(tmp_path):
    # The rate of the second half tears down what the first half learnt.
    recipe = QUICK.model_copy(update={"epochs": 8, "lr": 9.0, "warmup": 0.9, "strength": 0.0})
    trained(tmp_path / "m", recipe=recipe)
    log = read_log(tmp_path / "m")
    sort_keys = [epoch.sort_key for epoch in log.epochs]
    assert log.best == 1 + sort_keys.index(max(sort_keys)) < 8
    figures = read_report(tmp_path / "m").val
    assert figures.balanced_accuracy == pytest.approx(max(sort_keys)[0])
    assert figures.nll == pytest.approx(-max(sort_keys)[1], rel=1e-3)


@pytest.mark.parametrize(
    ("size", "crop", "detail"),
    some_quick(
        [(24, 0.9, None), (48, 0.75, 24), (32, 1.0, None), (24, 1.0, None), (64, 1.0, 32)],
        lambda number, _: number < 2,
    ),
)
def test_a_network_knows_how_fine_the_pictures_were_that_it_learnt_from(
    tmp_path, size, crop, detail
):
    recipe = QUICK.model_copy(update={"epochs": 1, "size": size, "crop": crop})
    trained(tmp_path / "m", recipe=recipe)
    assert read_manifest(tmp_path / "m").detail == detail
    assert from_folder(tmp_path / "m").input_spec.detail == detail


def test_weights_in_16_bits_are_what_is_reported(tmp_path):
    trained(tmp_path / "m", recipe=QUICK.model_copy(update={"half": True, "epochs": 3}))
    weights = load_file(tmp_path / "m" / "model.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.float16, torch.int64}
    backbone = from_folder(tmp_path / "m")
    assert {p.dtype for p in backbone.module.parameters()} == {torch.float32}
    report, dataset = read_report(tmp_path / "m"), Colours()
    x = torch.from_numpy(load_batch(dataset, dataset.of("val"), backbone.input_spec)).permute(
        0, 3, 1, 2
    )
    shares = backbone.logits(normalize(x / 255, backbone.input_spec)).softmax(1).amax(1)
    probabilities = [item.probability for item in report.items if item.split == "val"]
    assert np.allclose(probabilities, shares, atol=1e-6)


def test_numbers_beyond_16_bits_stay_in_32(tmp_path):
    from whylens.core.models.checkpoints import halve

    assert halve(torch.tensor([1.0])).dtype == torch.float16
    assert halve(torch.tensor([1e5])).dtype == torch.float32
    assert halve(torch.tensor([3])).dtype == torch.int64


@pytest.mark.slow
def test_a_rare_class_does_not_disappear(tmp_path):
    dataset = Colours(train=(90, 10), val=(18, 4), test=(18, 6))
    trained(tmp_path / "m", dataset=dataset, recipe=QUICK.model_copy(update={"epochs": 8}))
    rare = read_report(tmp_path / "m").test.classes[1]
    assert rare.recall >= 5 / 6
    weights = class_weights([0] * 90 + [1] * 10, 2, balance=True)
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 20])


def test_the_loss_is_the_literal_one():
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), [0, 2, 1, 1, 0]
    weights, smoothing = torch.tensor([1.0, 0.5, 2.0]), 0.2
    total = 0.0
    for row, label in zip(logits.double(), labels, strict=True):
        share = row.exp() / row.exp().sum()
        target = [smoothing / 3 + (1 - smoothing) * (c == label) for c in range(3)]
        total += float(weights[label]) * -sum(
            t * float(p.log()) for t, p in zip(target, share, strict=True)
        )
    actual = weighted_loss(logits, torch.tensor(labels), weights, smoothing)
    assert float(actual) == pytest.approx(total / 5, rel=1e-6)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
    for kind in ("triangular", "one-cycle"):
        recipe = QUICK.model_copy(update={"schedule": kind, "warmup": 0.25})
        rates = [schedule(step, 100, recipe) for step in range(100)]
        assert max(rates) == rates[24] or max(rates) == rates[25]
        assert max(rates) > 0.98
        assert rates[0] < 0.03
        assert rates[-1] < 0.01
        assert rates[:25] == sorted(rates[:25])
        assert rates[25:] == sorted(rates[25:], reverse=True)


def test_a_step_of_sgd_is_the_literal_one():
    random = RandomState(0)
    rates = {"head_ratio": 3.0, "bias_ratio": 8.0}
    plain = {"momentum": 0.0, "weight_decay": 0.01, "smoothing": 0.0, **rates}
    recipe = QUICK.model_copy(update=plain)
    network = build_network(recipe, 2, random)
    x, labels = torch.randn(4, 3, 32, 32, generator=random.generator), torch.tensor([0, 1, 1, 0])
    network.module.train()
    loss = torch.nn.functional.cross_entropy(network.module(x), labels)
    parameters = dict(network.module.named_parameters())
    gradients = dict(
        zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)
    )
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimiser = make_optimiser(network, recipe, head_fitted=False)
    actual = train_step(network, optimiser, x, labels, torch.ones(2), recipe, 0.5)
    assert actual == pytest.approx(loss.item(), rel=1e-5)
    for name, p in parameters.items():
        decay = 0.01 * before[name] if p.ndim > 1 else 0.0
        rate = 0.5 * 0.05 * (3 if name.startswith("fc.") else 1) * (1 if p.ndim > 1 else 8)
        assert torch.allclose(p, before[name] - rate * (gradients[name] + decay), atol=1e-6)


def test_averaged_weights_are_the_moving_average():
    module = torch.nn.Linear(1, 1)
    values, average = [], None
    for step in range(4):
        with torch.no_grad():
            module.weight.fill_(float(step))
        average = update_average(average, module, 0.15, step)
        values.append(float(average["weight"]))
    # A young average would keep 2/11, 3/12, 4/13, all above the decay.
    expected = [0.0]
    for weight in (1.0, 2.0, 3.0):
        expected.append(0.15 * expected[-1] + 0.85 * weight)
    assert values == pytest.approx(expected)
    assert float(update_average(average, module, 0.9, 1)["bias"]) == module.bias.item()


def test_without_augmentation_a_view_is_what_the_network_is_fed_later():
    recipe = QUICK.model_copy(update={"strength": 0.0, "flip": False, "crop": 0.5})
    dataset = Colours()
    input_spec = build_network(recipe, 2, RandomState(0)).input_spec.model_copy(
        update={"size": (16, 16)}
    )
    spec = cache_spec(dataset, dataset.of("train"), input_spec)
    assert spec.size == (32, 32)
    frames = torch.from_numpy(load_batch(dataset, (0, 30), spec)).permute(0, 3, 1, 2)
    views = random_views(frames, (16, 16), recipe, crop=0.5, generator=torch.Generator())
    later = torch.from_numpy(load_batch(dataset, (0, 30), input_spec)).permute(0, 3, 1, 2) / 255
    assert torch.allclose(views, later, atol=1e-5)


def test_views_repeat_with_their_generator_and_mirror_half():
    frames = torch.arange(32, dtype=torch.uint8).repeat(400, 3, 32, 1)
    recipe = QUICK.model_copy(update={"strength": 0.0})

    def drawn_views(recipe):
        generator = torch.Generator().manual_seed(3)
        return random_views(frames, (32, 32), recipe, crop=1.0, generator=generator)

    is_mirrored = drawn_views(recipe)[:, 0, 0, 0] > drawn_views(recipe)[:, 0, 0, -1]
    assert 160 < int(is_mirrored.sum()) < 240
    strong = recipe.model_copy(update={"strength": 1.0, "cutout": 0.3})
    assert torch.equal(drawn_views(strong), drawn_views(strong))
    assert 0 <= float(drawn_views(strong).min()) <= float(drawn_views(strong).max()) <= 1


def test_pictures_beyond_the_budget_are_read_when_asked_for():
    dataset = Colours()
    input_spec = build_network(QUICK, 2, RandomState(0)).input_spec
    frames = {}
    for budget in (0, 10**9):
        work = cache_images(dataset, dataset.of("train"), input_spec, budget=budget)
        while True:
            try:
                next(work)
            except StopIteration as end:
                frames[budget] = end.value
                break
    assert frames[0].cached is None
    assert (frames[0].batch([5, 40]) == frames[10**9].batch([5, 40])).all()


class Interrupted(Colours):
    """Other processes get Ctrl-C as they read: it is meant for the one that started them."""

    def pixels(self, index):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGINT)
        return super().pixels(index)


def test_slow_pictures_are_drawn_in_the_process_of_a_page_too(monkeypatch):
    monkeypatch.setattr("whylens.core.train.pictures._LONG", -1.0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    # As one has it that must not start others.
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    dataset = Colours(train=(10, 10))
    input_spec = build_network(QUICK, 2, RandomState(0)).input_spec
    work = cache_images(dataset, dataset.of("train"), input_spec, budget=10**9)
    assert (run_out(work).cached == load_batch(dataset, dataset.of("train"), input_spec)).all()


@pytest.mark.slow
def test_slow_pictures_are_drawn_by_other_processes_with_the_same_result(monkeypatch):
    monkeypatch.setattr("whylens.core.train.pictures._LONG", -1.0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    dataset = Interrupted(train=(40, 40))
    input_spec = build_network(QUICK, 2, RandomState(0)).input_spec
    work = cache_images(dataset, dataset.of("train"), input_spec, budget=10**9)
    assert (run_out(work).cached == load_batch(dataset, dataset.of("train"), input_spec)).all()


@pytest.mark.parametrize("loss", [float("nan"), 1e6])
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_that_leaves_all_bounds_says_so_and_keeps_what_was(
    tmp_path, monkeypatch, epochs, loss
):
    import whylens.core.train.run as module

    original_step, steps = module.train_step, []

    def exploding(*args):
        steps.append(1)
        return loss if len(steps) > 3 * (epochs - 1) else original_step(*args)

    monkeypatch.setattr(module, "train_step", exploding)
    monkeypatch.setattr(module, "LAST_BATCHES", 2)
    if epochs == 1:
        words = r"loss is (no number|1,000,000), where guessing gives 0\.69\. Start from a trained"
        with pytest.raises(BadInput, match=words):
            trained(tmp_path / "m")
    else:
        trained(tmp_path / "m")
        report = read_report(tmp_path / "m")
        assert len(report.epochs) == 1
        assert not report.complete
        assert any("left all bounds in epoch 2" in note for note in report.notes)


def run_out(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def frames_of(dataset, split, input_spec) -> Frames:
    return run_out(cache_images(dataset, dataset.of(split), input_spec, budget=10**9))


@pytest.mark.parametrize(
    "backbone",
    [
        pytest.param("resnet18", marks=pytest.mark.slow),
        pytest.param("torchvision:squeezenet1_0", marks=pytest.mark.slow),
        "test_vit",
    ],
)
def test_the_last_layer_alone_is_a_linear_layer_on_cached_features(tmp_path, backbone):
    arguments = SLIM if backbone == "resnet18" else {}
    size = 64 if "squeeze" in backbone else 32
    recipe = Recipe(backbone=backbone, arguments=arguments, size=size, mode="head", flip=False)
    dataset = Colours()
    trained(tmp_path / "m", recipe=recipe, dataset=dataset)
    start = build_network(recipe, 2, RandomState(recipe.seed))
    features, truth = {}, {}
    for split in ("train", "val"):
        frames = frames_of(dataset, split, start.input_spec)
        features[split] = run_out(head.features(start, frames, batch=7, mirrored=False))
        truth[split] = torch.tensor([dataset.items[i].label for i in dataset.of(split)])
    solution = run_out(
        head.fit(
            (features["train"], truth["train"]), (features["val"], truth["val"]), torch.ones(2)
        )
    )
    layer = torch.nn.Linear(features["val"].shape[1], 2)
    with torch.no_grad():
        layer.weight.copy_(solution.weight)
        layer.bias.copy_(solution.bias)
        expected = layer(features["val"]).softmax(1)
    backbone = from_folder(tmp_path / "m")
    frames = frames_of(dataset, "val", start.input_spec)
    x = head.inputs(frames, list(range(16)), start)
    assert torch.allclose(backbone.logits(x).softmax(1), expected, atol=2e-3)
    # The trunk is as it was.
    state, start_state = backbone.module.state_dict(), start.module.state_dict()
    assert all(
        torch.equal(state[k], start_state[k]) for k in start_state if not k.startswith(start.head)
    )


def test_the_fit_of_the_last_layer_is_a_minimum():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(60, 5, generator=generator) * torch.tensor([1, 10, 0.1, 1, 1]) + 3
    labels = (x[:, 0] + torch.randn(60, generator=generator) > 3).long()
    weights = class_weights(labels.tolist(), 2, balance=True)
    solution = run_out(head.fit((x, labels), (x, labels), weights))
    spread, middle = x.std(0), x.mean(0)
    w = (solution.weight * spread).double().requires_grad_()
    b = (solution.bias + solution.weight @ middle).double().requires_grad_()
    logits = ((x - middle) / spread).double() @ w.T + b
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels, weight=weights.double())
    loss = cross_entropy + solution.penalty / 2 * w.square().sum()
    gradients = torch.autograd.grad(loss, [w, b])
    assert max(float(g.abs().max()) for g in gradients) < 1e-4


def test_a_head_with_another_number_of_classes_is_dropped(colours_net, tmp_path):
    out, _ = colours_net
    recipe = QUICK.model_copy(update={"weights": str(out)})
    network = build_network(recipe, 5, RandomState(9))
    tensors = load_file(out / "model.safetensors")
    state = network.module.state_dict()
    assert network.trained
    assert state["fc.weight"].shape[0] == 5
    assert all(torch.equal(state[k], tensors[k]) for k in state if not k.startswith("fc."))


def test_weights_that_do_not_fit_are_refused_by_name(colours_net, tmp_path):
    out, _ = colours_net
    weights = load_file(out / "model.safetensors")
    weights["conv1.weight"] = torch.zeros(9, 3, 7, 7)
    weights["foreign"] = torch.zeros(1)
    del weights["bn1.weight"]
    save_file(weights, tmp_path / "w.safetensors")
    recipe = QUICK.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    message = "lack bn1.weight; they hold foreign; they have other shapes at conv1.weight"
    with pytest.raises(BadArtifact, match=message):
        build_network(recipe, 2, RandomState(0))


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ((0.004, 0.002, 0.003), 0),  # all tell the classes apart
        ((0.021, 0.001, 0.003), 1),
        ((0.69, 0.66, 0.70), 0),
        ((0.69, 0.70, 0.31), 2),
        ((0.10, 0.09, 0.07), 2),
        ((0.05, 0.06, 0.07), 0),
        ((0.0, 0.0, 0.0), 0),
    ],
)
def test_the_usual_range_of_inputs_is_left_only_for_one_that_is_clearly_better(losses, chosen):
    assert clearly_best(losses) == chosen


class Faint(Colours):
    """The same colours, told by a 16th of the contrast."""

    def pixels(self, index):
        return (super().pixels(index) // 16 + 100).astype(np.uint8)


@pytest.mark.slow
def test_how_weights_want_their_pictures_is_found_out(tmp_path):
    wide = QUICK.model_copy(update={"mean": (0.4,) * 3, "std": (1 / 255,) * 3, "lr": 0.01})
    trained(tmp_path / "m", dataset=Faint(), recipe=wide.model_copy(update={"epochs": 10}))
    weights = tmp_path / "w.safetensors"
    weights.write_bytes((tmp_path / "m" / "model.safetensors").read_bytes())
    recipe = Recipe(backbone="resnet18", arguments=SLIM, size=32, weights=str(weights), mode="head")
    trained(tmp_path / "n", dataset=Faint(), recipe=recipe)
    assert any("Of three ways" in note for note in read_report(tmp_path / "n").notes)
    assert read_report(tmp_path / "n").val.accuracy == 1.0
    recipe_with_mean = recipe.model_copy(update={"mean": (0.4,) * 3})
    trained(tmp_path / "o", dataset=Faint(), recipe=recipe_with_mean)
    assert not any("Of three ways" in note for note in read_report(tmp_path / "o").notes)
    assert str(tmp_path) not in (tmp_path / "o" / "report.json").read_text()
    checkpoint = recipe.model_copy(update={"weights": str(tmp_path / "m")})
    trained(tmp_path / "p", dataset=Faint(), recipe=checkpoint)
    manifest = read_manifest(tmp_path / "p")
    assert manifest.std == (1 / 255,) * 3
    assert f"from m ({read_manifest(tmp_path / 'm').licence}; sha256" in manifest.licence
    with (tmp_path / "m" / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BadArtifact, match="damaged or was replaced"):
        trained(tmp_path / "q", dataset=Faint(), recipe=checkpoint)


def test_pretrained_weights_that_cannot_be_had_are_refused_and_not_replaced(tmp_path, monkeypatch):
    def fail(name, arguments):
        raise WeightsUnavailable("The Hub cannot be reached.")

    monkeypatch.setattr("whylens.core.train.network.load_pretrained", fail)
    with pytest.raises(WeightsUnavailable, match=r"not begun.*cannot be reached.*that is here"):
        trained(tmp_path / "m", recipe=QUICK.model_copy(update={"weights": "pretrained"}))
    assert not (tmp_path / "m").exists()


def test_a_taken_folder_and_another_recipe_are_refused(colours_net, tmp_path):
    out, _ = colours_net
    with pytest.raises(BadInput, match="holds a model already"):
        trained(out)
    with pytest.raises(BadInput, match="started with another batch, lr"):
        trained(out, recipe=QUICK.model_copy(update={"batch": 8, "lr": 1.0}), resume=True)
    with pytest.raises(BadInput, match="started on other pictures"):
        trained(out, dataset=Colours(train=(20, 20)), resume=True)
    with pytest.raises(BadInput, match="cannot be a model's name"):
        trained(tmp_path / "a model")


def test_what_a_recipe_leaves_open_follows_from_its_start():
    assert (Recipe(backbone="x").mode, Recipe(backbone="x").epochs) == ("full", 30)
    recipe = Recipe(backbone="x", weights="w")
    assert (recipe.mode, recipe.epochs) == ("head-then-full", 10)
    assert Recipe(backbone="x", weights="w", mode="head").mode == "head"
    assert recipe.solver(trained=True) == "adamw"


def test_recipes_are_read_and_refused(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(QUICK.model_dump_json())
    assert read_recipe(path) == QUICK
    path.write_text('{"backbone": "resnet18", "epochs": 0}')
    with pytest.raises(BadInput, match="wrong at 'epochs'"):
        read_recipe(path)
    path.write_text("[1]")
    with pytest.raises(BadInput, match="not a JSON object"):
        read_recipe(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_recipe(tmp_path / "none.json")


@pytest.mark.parametrize(
    "backbone",
    [pytest.param("vgg11", marks=pytest.mark.slow), "mobilenetv3_small_100", "test_convnext"],
)
def test_other_families_take_a_step(backbone):
    recipe = Recipe(backbone=backbone, size=32, batch=2)
    network = build_network(recipe, 3, RandomState(0))
    network.module.train()
    optimiser = make_optimiser(network, recipe, head_fitted=False)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = train_step(network, optimiser, x, torch.tensor([0, 2]), torch.ones(3), recipe, 0.01)
    assert 0 < loss < 20


def test_a_folder_is_one_training_s_at_a_time(tmp_path):
    first = train(Colours(), QUICK, tmp_path / "m")
    next(first)
    with pytest.raises(BadInput, match="Another training writes into"):
        next(train(Colours(), QUICK, tmp_path / "m", resume=True))
    first.close()
    second = train(Colours(), QUICK, tmp_path / "m", resume=True)
    next(second)
    second.close()


KILLED = """
import sys
from pathlib import Path
from whylens.core.train.run import train
from tests.train.test_train import QUICK
from tests.support.pictures import Colours
for step in train(Colours(), QUICK.model_copy(update={"epochs": 400}), Path(sys.argv[1]),
                  resume=True):
    print("val_loss" in step.figures, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_a_checkpoint_is_whole_or_absent(tmp_path):
    out = tmp_path / "m"
    rng = np.random.default_rng(5)
    last_epochs = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(out)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        ended_epochs = 0
        while ended_epochs < rng.integers(1, 5):  # epochs; it goes on while this is read
            ended_epochs += process.stdout.readline() == b"True\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        epochs = len(read_log(out).epochs) if read_log(out) else 0
        assert epochs >= last_epochs
        last_epochs = epochs
        if (out / "model.json").exists():
            assert from_folder(out).labels == ("red", "blue")
        assert not (out / "model.json").exists() or (out / "model.safetensors").exists()
    assert last_epochs > 0
