"""`whylens.explain` and its kin on toy networks: the engine's own values, from any image."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import whylens
from tests.support.networks import GapNet, plain_spec, seeded
from whylens.core.engine import Engine
from whylens.core.explanation import Question
from whylens.core.inputs.arrays import read_channels, to_photo
from whylens.core.models.backbone import wrap

PLAIN = {"size": (24, 32), "mean": 0.0, "std": 1.0}
LABELS = ("cat", "dog", "cow")


@pytest.fixture
def net():
    """A toy network, fresh for each test."""
    return seeded(GapNet())


@pytest.fixture
def pixels(rng):
    """A noisy photo of another shape than the network's input."""
    return rng.integers(0, 256, (30, 52, 3), dtype=np.uint8)


def by_engine(net, pixels, method="grad-cam", params=None, **question):
    backbone = wrap(net, input_spec=plain_spec(24, 32), labels=LABELS)
    engine = Engine(loader=lambda name, progress: backbone)
    *_, answer = engine.explain(Question("toy", pixels, **question), method, params)
    return answer


def test_values_are_the_engine_s(net, pixels):
    why = whylens.explain(net, pixels, "occlusion", labels=LABELS, window=8, stride=8, **PLAIN)
    answer = by_engine(net, pixels, "occlusion", {"window": 8, "stride": 8})
    assert np.array_equal(why.values, answer.result.values)
    assert why.unit == answer.result.unit
    assert why.score == answer.score
    assert why.probability == answer.probability
    assert why.params["window"] == 8
    assert (why.target.index, why.target.label) == (answer.target.index, answer.labels[0])
    assert why.prediction.index == why.target.index
    assert why.prediction.probability == pytest.approx(why.probability)


def test_target_and_versus_by_index_and_by_label(net, pixels):
    options = {"labels": LABELS, **PLAIN}
    by_label = whylens.explain(net, pixels, "grad-cam", target="cow", versus="cat", **options)
    by_index = whylens.explain(net, pixels, "grad-cam", target=2, versus=np.int64(0), **options)
    answer = by_engine(net, pixels, target=2, versus=0, quantity="contrast")
    for why in (by_label, by_index):
        assert np.array_equal(why.values, answer.result.values)
        assert str(why.target) == "cow rather than cat"
        assert why.score == answer.score


def test_a_module_is_left_as_it_is(net, pixels):
    net.train()
    net.conv.eval()
    net.fc.requires_grad_(False)
    net.conv.weight.grad = torch.ones_like(net.conv.weight)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    whylens.explain(net, pixels, "grad-cam", **PLAIN)
    assert net.training
    assert not net.conv.training
    assert net.fc.training
    assert net.conv.weight.requires_grad
    assert not net.fc.weight.requires_grad
    assert torch.equal(net.conv.weight.grad, torch.ones_like(net.conv.weight))
    assert net.fc.weight.grad is None
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_network_that_learnt_answers_anew(net, pixels):
    first = whylens.explain(net, pixels, "grad-cam", target=1, **PLAIN)
    with torch.no_grad():
        net.conv.weight.mul_(2)
    second = whylens.explain(net, pixels, "grad-cam", target=1, **PLAIN)
    answer = by_engine(net, pixels, target=1)
    assert not np.array_equal(first.values, second.values)
    assert np.array_equal(second.values, answer.result.values)


def test_a_hook_that_looks_on_runs_no_more_than_once_and_stays_where_it_is(net, pixels):
    expected = whylens.explain(net, pixels, "grad-cam", target=1, **PLAIN).values
    calls = []
    net.conv.register_forward_hook(lambda module, args, output: calls.append(len(output)))
    net.fc.register_full_backward_hook(lambda module, before, after: calls.append("back"))
    hooks = dict(net.conv._forward_hooks), dict(net.fc._backward_hooks)
    assert np.array_equal(
        whylens.explain(net, pixels, "grad-cam", target=1, **PLAIN).values, expected
    )
    assert len(calls) <= 1
    assert hooks == (dict(net.conv._forward_hooks), dict(net.fc._backward_hooks))


def test_a_hook_that_has_a_part_in_the_scores_is_a_part_of_the_network(net, pixels):
    expected = whylens.explain(net, pixels, "grad-cam", target=1, **PLAIN).values
    net.conv.register_forward_hook(lambda module, args, output: 2 * output)
    hooked = whylens.explain(net, pixels, "grad-cam", target=1, **PLAIN)
    assert np.allclose(hooked.values, 2 * expected, rtol=1e-5)


def test_labels_come_before_indices_and_two_of_one_name_are_told_apart(net, pixels):
    model = whylens.load_model(net, labels=("10", "2", "10"), **PLAIN)
    assert whylens.explain(model, pixels, "grad-cam", target="2").target.index == 1
    assert whylens.explain(model, pixels, "grad-cam", target="#1").target.index == 1
    with pytest.raises(whylens.CoreError, match=r"2 classes are called '10': #0 \(10\); #2"):
        whylens.explain(model, pixels, "grad-cam", target="10")


def test_inference_mode_and_no_grad_change_nothing(net, pixels):
    expected = whylens.explain(net, pixels, "grad-cam", **PLAIN).values
    with torch.no_grad():
        assert np.array_equal(whylens.explain(net, pixels, "grad-cam", **PLAIN).values, expected)
    with torch.inference_mode():
        inference_model = whylens.load_model(
            copy.deepcopy(net), **PLAIN
        )  # its weights are of that mode
        assert np.array_equal(whylens.explain(net, pixels, "grad-cam", **PLAIN).values, expected)
    assert np.array_equal(whylens.explain(inference_model, pixels, "grad-cam").values, expected)


def test_size_mean_std_and_labels_in_any_form(net, pixels):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    expected = whylens.explain(
        net, pixels, "grad-cam", target="dog", size=24, mean=mean, std=std, labels=LABELS
    )
    forms = {"size": np.array([24, 24]), "mean": np.array(mean), "std": torch.tensor(std).double()}
    for labels in (list(LABELS), np.array(LABELS), {"0": "cat", "1": "dog", "2": "cow"}):
        why = whylens.explain(net, pixels, "grad-cam", target="dog", labels=labels, **forms)
        assert np.array_equal(why.values, expected.values)
    for wrong in ({"mean": "grey"}, {"mean": mean, "std": (1, 1)}, {"labels": "cat"}, {"size": 0}):
        with pytest.raises(whylens.CoreError):
            whylens.explain(net, pixels, "grad-cam", **wrong)


MODES = [
    "1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "LA", "PA", "La",
    "RGBa", "I;16", "I;16B",
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_pillow_images_of_every_mode(mode, pixels):
    from PIL import ImageCms

    grey = Image.fromarray(pixels).convert("L")
    flat = Image.merge("RGB", [grey] * 3)  # a picture that every mode can hold
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(flat, srgb, lab, outputMode="LAB")
    elif mode.startswith("I;16"):
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        image = image.convert("I").convert(mode) if mode != "I;16" else image
    else:
        bridge = {"PA": "P", "La": "LA", "RGBa": "RGBA"}.get(mode)
        source = grey if mode in ("P", "PA") else flat  # grey has a palette without loss
        image = (source.convert(bridge) if bridge else source).convert(mode)
    assert image.mode == mode
    expected = np.asarray(flat.convert("1").convert("RGB") if mode == "1" else flat, int)
    tolerance = 2 if mode in ("LAB", "CMYK", "HSV", "YCbCr") else 0
    assert np.abs(np.asarray(to_photo(image).pixels, int) - expected).max() <= tolerance


def test_a_float_between_the_steps_of_a_photo_is_told(net):
    why = whylens.explain(net, np.full((24, 32, 3), 0.5001), "grad-cam", **PLAIN)
    assert "rounded" in why.note


def file_of(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_every_form_of_an_image_gives_the_same_map(net, pixels, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(file_of(pixels))
    np.save(tmp_path / "photo.npy", pixels)
    image = Image.fromarray(pixels)
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    chw = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [
        str(path), path, tmp_path / "photo.npy", path.read_bytes(), bytearray(path.read_bytes()),
        image, image.convert("RGBA"), image.convert("RGBX"), pixels, rgba, pixels / 255,
        (pixels / 255).astype(np.float32), pixels[None], pixels.astype(np.int64),
        chw, chw[None], chw / 255, chw.permute(1, 2, 0), (chw / 255).double(),
        (chw / 255).requires_grad_(), np.asarray(chw),
    ]  # fmt: skip
    model = whylens.load_model(net, **PLAIN)
    expected = by_engine(net, pixels).result.values
    for why in whylens.explain(model, forms, "grad-cam"):
        assert np.array_equal(why.values, expected)
        assert "rounded" not in why.note


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((20, 20, 3), -1.5), "normalised already.*mean= and std="),
        (torch.full((3, 20, 20), 2.5), "divide them by 255|normalised"),
        (np.full((20, 20, 3), 200.0), "divide them by 255"),
        (np.full((20, 20, 3), 300), "0 to 255"),
        (np.full((20, 20, 3), np.nan), "NaN"),
        (np.zeros((2, 20, 20, 3)), "batch of 2 images.*list"),
        (np.zeros((20, 20, 7)), r"\(20, 20, 7\)"),
        (np.array(["a"]), "not numbers"),
        ("nowhere.jpg", "no file 'nowhere.jpg'"),
        ("https://example.org/cat.jpg", "address"),
        (None, "NoneType"),
        ("iVBORw0KGgo" * 400, r"^'iVBORw0KGgo.*is no path.*base64.b64decode"),
        ("long" * 400 + ".jpg", "is no path of a file"),
        ("~nobody-of-this-name/cat.jpg", "is no path of a file"),
        (torch.empty(3, 20, 20, device="meta"), "'meta'"),
        (torch.empty(3, 20, 20, dtype=torch.bits8), "cannot be read as"),
        (torch.zeros(3, 20, 20, dtype=torch.complex64), "holds complex64, not numbers"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_remedy(net, image, words):
    model = whylens.load_model(net, **PLAIN)
    with pytest.raises(whylens.BadInput, match=words):
        whylens.explain(model, image, "grad-cam")


def test_a_tensor_of_any_layout_is_read_as_what_it_holds(rng):
    values = torch.from_numpy(rng.integers(0, 256, (3, 20, 20)).astype(np.float32) / 255)
    tensors = (
        torch._neg_view(-values),
        torch.complex(values, -values).conj().imag,
        values.to_sparse(),
    )
    for tensor in tensors:
        wanted = np.rint(255 * values.permute(1, 2, 0).numpy())
        assert np.array_equal(to_photo(tensor).pixels, wanted)


def test_the_bands_of_a_pillow_image_are_channels_where_their_number_fits(rng):
    bands = rng.integers(0, 256, (24, 32, 4), dtype=np.uint8)
    image = Image.fromarray(bands)
    net = nn.Sequential(nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    likely, wanted = (whylens.predict(seeded(net), x, **PLAIN) for x in (image, bands))
    assert image.mode == "RGBA"
    assert likely == wanted
    input_spec = plain_spec(24, 32, channels=4)
    values, notes = read_channels(image, input_spec)
    assert np.array_equal(values, np.moveaxis(bands, 2, 0) / np.float32(255))
    assert notes == ("Its bytes were taken as shares of 255.",)
    for mode, words in (
        ("RGB", r"has 3 bands \(R, G, B\), and this network takes 4"),
        ("L", r"has 1 band \(L\), and"),
    ):
        with pytest.raises(whylens.BadInput, match=words):
            read_channels(image.convert(mode), input_spec)
    with pytest.raises(whylens.BadInput, match="cut off"):
        read_channels(Image.open(io.BytesIO(file_of(bands)[:600])), input_spec)


@pytest.mark.parametrize("top", [1.5, -1, 0, "2", None])
def test_a_number_of_classes_that_is_none_is_refused(net, pixels, top):
    with pytest.raises(whylens.CoreError, match=f"whole number of at least 1, not '{top}'"):
        whylens.predict(net, pixels, top=top, **PLAIN)
    for whole in (1, np.int64(2), 99):
        likely = whylens.predict(net, pixels, top=whole, **PLAIN)
        assert len(likely) == min(whole, len(LABELS))


def test_wrong_names_are_refused_with_near_ones(net, pixels):
    model = whylens.load_model(net, labels=LABELS, **PLAIN)
    for options, words in [
        ({"method": "gradcam"}, "Did you mean grad-cam"),
        ({"method": "occlusion", "windw": 8}, "Did you mean window="),
        ({"method": "occlusion", "taget": 1}, "Did you mean target="),
        ({"method": "occlusion", "window": "wide"}, "window"),
        ({"method": "grad-cam", "target": "caat"}, "Did you mean cat"),
        ({"method": "grad-cam", "target": 3}, "classes 0 to 2"),
        ({"method": "grad-cam", "target": -1}, "classes 0 to 2"),
        ({"method": "grad-cam", "target": [1, 2]}, "one class at a time"),
        ({"method": "grad-cam", "size": 20}, "describe an nn.Module"),
        ({"method": "grad-cam", "size": (3, 24, 24)}, r"without channels: \(24, 24\)"),
        ({"method": "grad-cam", "seed": "a"}, "seed= is a whole number"),
        ({"method": ["grad-cam", "rise"]}, "asked by `whylens.compare`"),
    ]:
        with pytest.raises(whylens.CoreError, match=words):
            whylens.explain(model, pixels, **options)


def test_an_explainer_s_instance_is_a_method(net, pixels):
    class Peak(whylens.Explainer[whylens.NoParams]):
        name = "peak"
        title = "Peak"
        family = "Tests"
        summary = "The largest feature."
        limits = "All else."
        source = "none"
        cost = "1 forward pass"
        needs = frozenset({whylens.Need.SPATIAL_FEATURES})
        Params = whylens.NoParams

        def explain(self, subject, params):
            return whylens.Heatmap(subject.features[0].amax(0).numpy(), unit="activation")

    why = whylens.explain(net, pixels, Peak(), **PLAIN)
    model = whylens.load_model(net, **PLAIN)
    x = torch.from_numpy(by_input(pixels))
    assert np.allclose(why.values, model.features(x).map[0].amax(0))
    with pytest.raises(whylens.InvalidParameter, match=r"give an instance: Peak\(\)"):
        whylens.explain(net, pixels, Peak, **PLAIN)


def by_input(pixels):
    from whylens.core.inputs.photo import photo_of
    from whylens.core.inputs.preprocess import photo_tensor

    return photo_tensor(photo_of(pixels), plain_spec(24, 32))[0].numpy()


def test_steps_come_one_by_one_and_stop_when_closed(net, pixels):
    steps = whylens.explain_steps(net, pixels, "rise", masks=256, **PLAIN)
    first = next(steps)
    assert 0 < first.fraction < 1
    assert not first.finished
    steps.close()
    *_, last = whylens.explain_steps(net, pixels, "rise", masks=256, **PLAIN)
    assert last.finished
    whole = whylens.explain(net, pixels, "rise", masks=256, **PLAIN)
    assert np.array_equal(last.values, whole.values)


def test_a_list_gives_a_list_in_its_order(net, rng):
    images = [rng.integers(0, 256, (30, 40 + n, 3), dtype=np.uint8) for n in range(3)]
    answers = whylens.explain(net, images, "grad-cam", target=0, **PLAIN)
    assert len(answers) == 3
    for image, why in zip(images, answers, strict=True):
        assert np.array_equal(why.values, by_engine(net, image, target=0).result.values)
    assert whylens.explain(net, [], "grad-cam", **PLAIN) == []


def test_of_several_files_the_one_that_cannot_be_read_is_named(net, pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:300])
    files = [tmp_path / "good.png", tmp_path / "bad.png"]
    for call in (whylens.predict, lambda *args: whylens.explain(*args, "occlusion")):
        for model in (net, whylens.load_model(net, **PLAIN)):
            with pytest.raises(whylens.BadInput, match=r"^bad\.png: The picture is damaged"):
                call(model, files)


@pytest.mark.parametrize("image", [[0.5, 0.25], [[1, 2], [3, 4]], ((0.5,),)])
def test_numbers_in_a_list_are_no_images(net, image):
    for call in (whylens.predict, lambda *args: whylens.explain(*args, "occlusion")):
        with pytest.raises(whylens.BadInput, match=r"make an array: np\.array"):
            call(net, image)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"dog": 1, "cat": 0, "fox": 2}, ("cat", "dog", "fox")),  # torchvision's class_to_idx
        ({"10": np.int64(0), "9": np.int64(1), "8": np.int64(2)}, ("10", "9", "8")),
        ({1: 20, 0: 10, 2: 30}, ("10", "20", "30")),
        ({"1": "b", "0": "a", "2": "c"}, ("a", "b", "c")),
        (None, ("class 0", "class 1", "class 2")),
    ],
)
def test_labels_in_a_dictionary_are_in_the_order_of_the_scores(net, labels, expected):
    assert whylens.load_model(net, labels=labels, **PLAIN).labels == expected


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"a": "x", "b": "y"}, "labels by index, or indices by label"),
        ({"a": 0, "b": 0, "c": 1}, "one index is given to several labels"),
        ({0: "a", 1: "b", 2: "c", 5: "d"}, "not 0, 1, 2 and so on"),
        ({1: "a", 2: "b", 3: "c"}, "not 0, 1, 2 and so on"),
        ({"a", "b", "c"}, "in the order of the scores"),
        ("abc", "in the order of the scores"),
        (3, "in the order of the scores"),
    ],
)
def test_labels_without_an_order_are_refused(net, labels, words):
    with pytest.raises(whylens.BadInput, match=words):
        whylens.load_model(net, labels=labels, **PLAIN)


@pytest.mark.parametrize("size", [(3, 24, 32), (24, 32, 3)])
def test_a_size_with_channels_is_told_without(net, size):
    with pytest.raises(whylens.BadInput, match=r"without channels: \(24, 32\)"):
        whylens.load_model(net, size=size)


def test_predict_ranks_the_softmax_of_the_logits(net, pixels):
    top = whylens.predict(net, pixels, top=2, labels=LABELS, **PLAIN)
    logits = net(torch.from_numpy(by_input(pixels)))[0].detach()
    order = logits.argsort(descending=True)[:2].tolist()
    assert [guess.index for guess in top] == order
    assert [guess.label for guess in top] == [LABELS[i] for i in order]
    assert np.allclose([g.probability for g in top], logits.softmax(-1)[order], atol=1e-6)
    assert len(whylens.predict(net, [pixels, pixels], **PLAIN)) == 2


def test_methods_say_why_not(net):
    names = whylens.methods(net, **PLAIN)
    assert "grad-cam" in names
    assert "occlusion" in names
    assert "legrad" not in names
    assert "attention" in names.unavailable["legrad"]
    assert set(whylens.methods()) == {*names, *names.unavailable}


def test_models_lists_names_by_pattern():
    names = whylens.models("resnet18*")
    assert "resnet18.a1_in1k" in names
    assert all(name.startswith("resnet18") for name in names)
    with pytest.raises(whylens.CoreError, match="Did you mean"):
        whylens.models("resnot18.a1_in1k")


def test_a_network_without_a_feature_map_keeps_the_other_methods(pixels):
    flat = seeded(nn.Sequential(nn.Flatten(), nn.Linear(24 * 32 * 3, 3)))
    why = whylens.explain(flat, pixels, "occlusion", window=8, stride=8, **PLAIN)
    assert why.values.any()
    with pytest.raises(whylens.NeedsNotMet, match="feature map"):
        whylens.explain(flat, pixels, "grad-cam", **PLAIN)


def test_open_files_are_images(net, pixels, tmp_path):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")  # and is not wound back
    (tmp_path / "x.png").write_bytes(stream.getvalue())
    array = io.BytesIO()
    np.save(array, pixels)
    expected = whylens.predict(net, pixels, **PLAIN)
    for image in (stream, array, array.getvalue(), memoryview(stream.getvalue())):
        assert whylens.predict(net, image, **PLAIN) == expected
    with (tmp_path / "x.png").open("rb") as file:
        why = whylens.explain(net, file, "saliency", **PLAIN)
    assert why.prediction == expected[0]
    stream.seek(0)
    assert whylens.compare(net, stream, ["saliency"], **PLAIN)[0].prediction == expected[0]
    stream.seek(0)
    *_, last = whylens.explain_steps(net, stream, "saliency", **PLAIN)
    assert last.prediction == expected[0]
    stream.seek(0)
    assert len(whylens.predict(net, [stream, pixels], **PLAIN)) == 2
    with (
        (tmp_path / "x.png").open(encoding="latin-1") as text,
        pytest.raises(whylens.BadInput, match="Open it as bytes"),
    ):
        whylens.predict(net, text, **PLAIN)
    with pytest.raises(whylens.BadInput, match="open file cannot be read"):
        whylens.predict(net, text, **PLAIN)


def test_open_files_are_signals_and_bands(rng, tmp_path):
    signal, bands = rng.random((2, 24), np.float32), rng.integers(0, 256, (2, 24, 32), np.uint8)
    net, of_bands = seeded(GapNet(axes=1, channels=2)), seeded(GapNet(channels=2))
    table = "\n".join(",".join(map(str, row.tolist())) for row in signal).encode()
    options = {"size": (24,), "mean": (0.0, 0.0), "std": (1.0, 1.0)}
    assert whylens.predict(net, io.BytesIO(table), **options)[0].logit == pytest.approx(
        whylens.predict(net, signal, **options)[0].logit
    )
    tiff = io.BytesIO()
    first, second = map(Image.fromarray, bands)
    first.save(tiff, "TIFF", save_all=True, append_images=[second])
    options = {"size": (24, 32), "mean": (0.0, 0.0), "std": (1.0, 1.0)}
    assert whylens.predict(of_bands, tiff, **options) == whylens.predict(of_bands, bands, **options)
    why = whylens.explain(of_bands, bands.astype(np.uint16) * 9, "saliency", **options)
    assert "Its values of 16 bits were taken as they are" in why.note
    assert "Its values of 16 bits" in (tmp_path / why.save(tmp_path)[-1]).read_text()


def test_other_channels_than_the_network_reads_are_named(net, pixels):
    words = r"first layer reads 3 channels, and mean and std have 6 values each.*in_chans=6"
    with pytest.raises(whylens.CoreError, match=words):
        whylens.predict(net, pixels, size=(24, 32), mean=[0.5] * 6, std=[0.2] * 6)
    with pytest.raises(whylens.CoreError, match=words):
        wrap(net, input_spec=plain_spec(24, 32, channels=6))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "cv2.imread gives None"),
        (iter(()), r"make a list: \[\*images\]"),
        ((torch.zeros(3, 24, 32), 1), r"pair of an image and its class.*pair\[0\]"),
    ],
)
def test_what_is_nearly_an_image_is_refused_with_the_next_step(net, image, words):
    with pytest.raises(whylens.BadInput, match=words):
        whylens.predict(net, image, **PLAIN)


def test_one_score_has_one_or_two_labels():
    single = seeded(GapNet(classes=1))
    with pytest.raises(whylens.CoreError, match="one score, which decides between two labels, and"):
        whylens.load_model(single, labels=LABELS, **PLAIN)
