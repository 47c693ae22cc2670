"""Which method works on which family of networks: tried out, and written down.

`python -m benchmarks.zoo --write docs/models.md` builds the smallest member of every family with
random weights, probes it as a visitor's model is probed, and asks every built-in method. The same
list is the test of the splits and the probes (tests/house/test_zoo.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from whylens.core.inputs.spec import InputSpec, probe_inputs
from whylens.core.models.backbone import Backbone, wrap
from whylens.core.models.random_weights import randomize_weights
from whylens.core.registry import load_registry

SEED, CLASSES = 5, 7
WORKS = "yes"


@dataclass(frozen=True, eq=False)
class Specimen:
    """One architecture, as small as its family allows.

    Attributes:
        family: The family, in words.
        name: The name in timm.
        grid: Expected positions of its feature map, or None where there must be none.
        linear: Whether its head must be found to be pool-then-linear.
        size: Size of the input.
        options: What the architecture is built with, to make it smaller.
        fast: Whether the ordinary suite tries it.
        best_patch: Whether its score reads, for each class, the best patch only.
    """

    family: str
    name: str
    linear: bool = False
    grid: tuple[int, int] | None = (2, 3)
    size: tuple[int, int] = (64, 96)
    options: dict[str, Any] = field(default_factory=dict)
    fast: bool = False
    best_patch: bool = False

    def __str__(self) -> str:
        return self.name

    def backbone(self) -> Backbone:
        """Return the network with random weights, probed."""
        import timm

        input_spec = InputSpec(size=self.size)
        module = timm.create_model(self.name, num_classes=CLASSES, **self.options)
        randomize_weights(module, seed=SEED, probe=probe_inputs(input_spec))
        return wrap(module, input_spec=input_spec)


def _specimens() -> Iterable[Specimen]:
    def cnn(family: str, name: str, *, linear: bool = False, **more: Any) -> Specimen:
        return Specimen(family, name, linear, **more)

    def vit(
        family: str, name: str, *, depth: int | None = None, stride: int = 16, **more: Any
    ) -> Specimen:
        size = more.pop("size", (64, 96))
        options = {"img_size": size, **more.pop("options", {})}
        if depth is not None:
            options["depth"] = depth
        grid = more.pop("grid", (size[0] // stride, size[1] // stride))
        return Specimen(family, name, grid=grid, size=size, options=options, **more)

    square = {"size": (64, 64), "grid": (2, 2)}
    fixed = {"size": (224, 224), "grid": (7, 7)}
    narrow = {"options": {"channels": (16, 24, 32, 48)}}
    yield cnn("ResNet", "resnet18", linear=True, fast=True, **narrow)
    yield cnn("ResNet", "resnet26d", linear=True)
    yield cnn("ResNetV2", "resnetv2_18", linear=True)
    yield cnn("NFNet", "test_nfnet", linear=True, fast=True)
    yield cnn("NFNet", "nf_regnet_b0", linear=True)
    yield cnn("RegNet", "regnetx_002", linear=True)
    narrow = {"options": {"depth": 6, "w0": 8, "wa": 8.0, "wm": 2.0, "group_size": 8}}
    yield cnn("RegNet", "regnety_002", linear=True, fast=True, **narrow)
    yield cnn("DenseNet", "densenet121", linear=True)
    yield cnn("DLA", "dla46_c", linear=True)
    yield cnn("DPN", "dpn48b", linear=True)
    yield cnn("VGG", "vgg11_bn")
    yield cnn("Inception-v3", "inception_v3", linear=True, size=(128, 160), grid=(2, 3))
    yield cnn("Inception-v4", "inception_v4", linear=True, size=(128, 160), grid=(2, 3))
    yield cnn("Xception", "xception41", linear=True)
    yield cnn("EfficientNet", "efficientnet_b0", linear=True)
    yield cnn("EfficientNet", "efficientnet_lite0", linear=True)
    yield cnn("MobileNetV2", "mobilenetv2_050", linear=True)
    yield cnn("MobileNetV3", "mobilenetv3_small_050", fast=True)
    yield cnn("MobileNetV4", "mobilenetv4_conv_small_035")
    yield cnn("MobileNetV5", "mobilenetv5_base", linear=True, size=(64, 64), grid=(16, 16))
    yield cnn("LCNet", "lcnet_050")
    yield cnn("GhostNet", "ghostnet_050")
    yield cnn("GhostNetV3", "ghostnetv3_050")
    yield cnn("RepGhostNet", "repghostnet_050")
    yield cnn("HardCoRe-NAS", "hardcorenas_a")
    yield cnn("HGNetV2", "hgnetv2_b0")
    yield cnn("HRNet", "hrnet_w18_small", linear=True)
    yield cnn("Res2Net", "res2net50_14w_8s", linear=True)
    yield cnn("ResNeSt", "resnest14d", linear=True)
    yield cnn("SENet", "legacy_seresnet18", linear=True)
    yield cnn("SKNet", "skresnet18", linear=True)
    yield cnn("SelecSLS", "selecsls42", linear=True, size=(128, 192))
    yield cnn("ReXNet", "rexnet_100", linear=True)
    yield cnn("RepVGG", "repvgg_a0", linear=True)
    yield cnn("MobileOne", "mobileone_s0", linear=True)
    yield cnn("RepViT", "repvit_m0_9", linear=True)
    yield cnn("GERNet", "gernet_s", linear=True)
    yield cnn("CSPNet", "cs3darknet_focus_s", linear=True)
    yield cnn("CSPNeXt", "cspnext_tiny", linear=True)
    yield cnn("VoVNet", "ese_vovnet19b_slim", linear=True)
    yield cnn("TResNet", "tresnet_m", linear=True)
    yield cnn("LambdaNet", "lambda_resnet26t", linear=True)
    yield cnn("BoTNet", "botnet26t_256", linear=True, size=(256, 256), grid=(8, 8))
    yield cnn("ConvNeXt", "convnext_atto", fast=True)
    yield cnn("ConvNeXtV2", "convnextv2_atto")
    yield cnn("ConvMixer", "convmixer_768_32", linear=True, size=(56, 84), grid=(8, 12))
    yield cnn("RDNet", "rdnet_tiny")
    yield cnn("FasterNet", "fasternet_t0")
    yield cnn("StarNet", "starnet_s050", linear=True)
    yield cnn("InceptionNeXt", "inception_next_atto")
    yield cnn("MambaOut", "test_mambaout", fast=True)
    yield cnn("EdgeNeXt", "edgenext_xx_small")
    yield cnn("MobileViT", "mobilevit_xxs", linear=True)
    yield cnn("MobileViTV2", "mobilevitv2_050", linear=True, **square)
    yield cnn("FastViT", "fastvit_t8", linear=True)
    yield cnn("PoolFormer", "poolformer_s12")
    yield cnn("CAFormer", "caformer_s18")
    yield cnn("EfficientViT (MIT)", "efficientvit_b0")
    yield cnn("EfficientViT (MSRA)", "efficientvit_m0", linear=True, size=(224, 224), grid=(4, 4))
    yield cnn("EfficientFormer", "efficientformer_l1", linear=True, **fixed)
    yield cnn("EfficientFormerV2", "efficientformerv2_s0", linear=True, **fixed)
    yield cnn("EfficientViM", "efficientvim_m1", grid=None)
    yield cnn("LowFormer", "lowformer_b0")
    yield cnn("SHViT", "shvit_s1", linear=True, size=(128, 192))
    yield cnn("iFormer", "iformer_t", linear=True)
    yield cnn("SwiftFormer", "swiftformer_xs", linear=True)
    yield cnn("CSATv2", "csatv2", size=(128, 192))
    yield cnn("DaViT", "davit_tiny")
    yield cnn("FocalNet", "focalnet_tiny_srf", linear=True)
    yield cnn("NextViT", "nextvit_small", linear=True)
    yield cnn("PVTv2", "pvt_v2_b0", linear=True)
    yield cnn("TinyViT", "tiny_vit_5m_224", **square)
    yield cnn("XCiT", "xcit_nano_12_p16_224", grid=(4, 6))
    yield cnn("GCViT", "gcvit_xxtiny", linear=True, **fixed)
    yield cnn("Hiera", "hiera_tiny_224", **fixed)
    yield cnn("LeViT", "levit_128s", linear=True, size=(224, 224), grid=(4, 4))
    yield cnn("NesT", "nest_tiny", linear=True, size=(224, 224), grid=(14, 14))
    yield cnn("PiT", "pit_ti_224", size=(224, 224), grid=None)
    yield cnn(
        "ConViT",
        "convit_tiny",
        size=(224, 224),
        grid=(14, 14),
        options={"depth": 3, "local_up_to_layer": 2},
    )
    yield cnn("CrossViT", "crossvit_tiny_240", size=(240, 240), grid=None)
    yield vit("ViT", "test_vit", fast=True)
    yield vit("ViT", "vit_tiny_patch16_224")
    yield vit("ViT (SigLIP)", "vit_base_patch16_siglip_224", depth=2)
    yield vit("ViT (SigLIP, averaged)", "vit_base_patch16_siglip_gap_224", depth=2, linear=True)
    yield vit("ViT (DINOv2)", "vit_small_patch14_reg4_dinov2", depth=3, stride=14, size=(56, 84))
    yield vit("ViT (DINOv3)", "vit_small_patch16_dinov3", depth=3, linear=True)
    yield vit("ViT (relative positions)", "test_vit_relpos", size=(64, 64))
    yield vit("ViT (SAM)", "samvit_base_patch16_224", depth=2, linear=True)
    yield vit("ViT on ResNet", "vit_tiny_r_s16_p8_224", stride=32)
    yield vit("DeiT (distilled)", "deit_tiny_distilled_patch16_224", depth=3, fast=True)
    yield vit("DeiT III", "deit3_small_patch16_224", depth=3)
    yield vit("BEiT", "beit_base_patch16_224", depth=2)
    yield vit("EVA-02", "eva02_tiny_patch14_224", depth=3, stride=14, size=(56, 84))
    yield vit("CaiT", "cait_xxs24_224", depth=3, fast=True)
    yield vit("TNT", "tnt_s_patch16_224", depth=3)
    yield vit("VOLO", "volo_d1_224", best_patch=True)
    yield vit("ViTamin", "vitamin_small_224")
    yield vit("Mixer", "mixer_s16_224", linear=True)
    yield vit("ResMLP", "resmlp_12_224", linear=True)
    yield vit("MViTv2", "mvitv2_tiny", stride=32, linear=True, size=(64, 64))
    yield vit("Sequencer", "sequencer2d_s", linear=True)
    yield vit(
        "Swin",
        "swin_tiny_patch4_window7_224",
        stride=32,
        linear=True,
        fast=True,
        options={"window_size": 4, "depths": (1, 1, 1, 1), "embed_dim": 24},
    )
    yield vit("Swin V2", "swinv2_tiny_window8_256", stride=32, linear=True)
    yield vit("Swin V2 (CR)", "swinv2_cr_tiny_224", stride=32, linear=True, size=(64, 64))
    yield vit("Twins", "twins_svt_small", stride=32, linear=True)
    yield vit("Visformer", "visformer_tiny", stride=32, linear=True)
    yield vit("MaxViT", "maxvit_pico_rw_256", stride=32, linear=True, size=(64, 64))
    yield vit("CoAtNet", "coatnet_pico_rw_224", stride=32, linear=True, size=(64, 64))
    yield vit("CoaT", "coat_tiny", grid=None, size=(64, 64))
    yield vit("CoaT (lite)", "coat_lite_tiny", grid=None, size=(64, 64))


SPECIMENS: tuple[Specimen, ...] = tuple(_specimens())


def verdicts(backbone: Backbone) -> dict[str, str]:
    """Return for every built-in method, by title, "yes" or the reason why not."""
    results = {}
    for explainer in load_registry().explainers.values():
        reason = backbone.why_not(explainer.needs) or explainer.why_not(backbone)
        results[explainer.title] = reason or WORKS
    return results


HEAD = """# Which method works on which network

Found by trying, not by looking at types or names: every row is the smallest member of its family
with random weights, probed as any model is when Whylens loads it. Pretrained members of a family
behave alike, unless their authors changed the head. Written by `python -m benchmarks.zoo --write
docs/models.md`; the test suite compares.

**yes** means that it works, a number is the reason below why not.

"""


def table(rows: dict[Specimen, dict[str, str]]) -> str:
    """Return the whole of docs/models.md.

    Args:
        rows: For each architecture, its verdict on every method.
    """
    methods = list(next(iter(rows.values())))
    reasons: list[str] = []
    lines = [
        f"| Family | Tried on | {' | '.join(methods)} |",
        "|---" * (2 + len(methods)) + "|",
    ]
    for specimen, row in rows.items():
        cells = []
        for method in methods:
            if row[method] != WORKS and row[method] not in reasons:
                reasons.append(row[method])
            cells.append(WORKS if row[method] == WORKS else str(reasons.index(row[method]) + 1))
        lines.append(f"| {specimen.family} | {specimen.name} | {' | '.join(cells)} |")
    footnotes = [f"{i}. {reason}" for i, reason in enumerate(reasons, 1)]
    return HEAD + "\n".join([*lines, "", "Why not:", "", *footnotes]) + "\n"


def read_table(text: str) -> dict[str, dict[str, str]]:
    """Return a table's verdicts in words by architecture and method: what `table` was given."""
    lines = text.splitlines()
    reasons = dict(line.split(". ", 1) for line in lines if line[:1].isdigit())
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    methods = rows[0][2:]
    return {
        name: {m: reasons.get(c, c) for m, c in zip(methods, cells, strict=True)}
        for _, name, *cells in rows[2:]
    }


def main(progress: Callable[[str], None] = print) -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, required=True, help="where to, as docs/models.md")
    target = parser.parse_args().write
    torch.set_num_threads(1)  # such small inputs only lose by more
    rows = {}
    for specimen in SPECIMENS:
        rows[specimen] = verdicts(specimen.backbone())
        progress(f"{specimen.family}: {sum(v == WORKS for v in rows[specimen].values())} methods")
    target.write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
