"""Networks of timm, torchvision and transformers, in tiny configurations and without weights."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from tests.methods.zoo.entry import BATCH, Entry, Wrapped, called, images, named, of_image
from tests.methods.zoo.sequences import adapt


def timm(name: str, size: int = 64, **options: Any) -> Entry:
    def build() -> nn.Module:
        return import_module("timm").create_model(name, pretrained=False, num_classes=10, **options)

    return of_image(f"timm/{name}", build, size)


def torchvision(name: str, size: int = 64, model: str | None = None, **options: Any) -> Entry:
    options.setdefault("num_classes", 10)

    def build() -> nn.Module:
        return import_module("torchvision.models").get_model(model or name, weights=None, **options)

    return of_image(f"tv/{name}", build, size)


def transformers(
    kind: str, config: str, take: Callable[[nn.Module], nn.Module] | None = None, **sizes: Any
) -> Callable[[], nn.Module]:
    """What builds a network of transformers: class, class of its configuration, sizes."""

    def build() -> nn.Module:
        package = import_module("transformers")
        network = getattr(package, kind)(getattr(package, config)(**sizes))
        return network if take is None else take(network)

    return build


WORDS = 60


def ids(length: int = 12) -> Tensor:
    return torch.randint(0, WORDS, (BATCH, length))


def with_ids(name: str, build: Callable[[], nn.Module], **others: Any) -> Entry:
    return named(name, build, lambda: {"input_ids": ids(), **others})


def _first(output: Any) -> Tensor:
    return output[0]


def wrapped(build: Callable[[], nn.Module], argument: str, **others: Any) -> Callable[[], nn.Module]:
    """One tensor in, by this name, and the first one out."""
    return lambda: Wrapped(build(), lambda x: ((), {argument: x, **others}), _first)


def ids_wrapped(name: str, build: Callable[[], nn.Module], **others: Any) -> Entry:
    return Entry(name, wrapped(build, "input_ids", **others), lambda: ((ids(),), {}))


def embeds(name: str, build: Callable[[], nn.Module], width: int = 32, **others: Any) -> Entry:
    return called(name, wrapped(build, "inputs_embeds", **others), (12, width))


TEXT = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
GROUPED = TEXT | {"num_key_value_heads": 2}
BERT = transformers("BertForQuestionAnswering", "BertConfig", **TEXT)
LLAMA = transformers("LlamaForCausalLM", "LlamaConfig", **TEXT)
LLAMA_GROUPED = transformers("LlamaForCausalLM", "LlamaConfig", **GROUPED)
PHI = transformers("PhiForCausalLM", "PhiConfig", **TEXT)
VIT = transformers(
    "ViTForImageClassification", "ViTConfig", image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2,
    num_attention_heads=4, intermediate_size=64, num_labels=10,
)  # fmt: skip
SWIN = transformers(
    "SwinForImageClassification", "SwinConfig", image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
    window_size=4, num_labels=10,
)  # fmt: skip
WHISPER_SIZES = {
    "vocab_size": WORDS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 16,
    "max_source_positions": 20, "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "begin_suppress_tokens": None, "suppress_tokens": None,
}  # fmt: skip


def whisper() -> Entry:
    build = transformers("WhisperForConditionalGeneration", "WhisperConfig", **WHISPER_SIZES)
    return named(
        "oto/whisper",
        build,
        lambda: {"input_features": torch.randn(BATCH, 16, 40), "decoder_input_ids": ids(8), "use_cache": False},
    )


def whisper_encoder() -> Entry:
    build = transformers("WhisperModel", "WhisperConfig", lambda network: network.get_encoder(), **WHISPER_SIZES)
    return Entry("hf/whisper_encoder", build, lambda: ((torch.randn(BATCH, 16, 40),), {}))


def sam() -> Entry:
    build = transformers(
        "SamVisionModel", "SamVisionConfig", hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=4,
        image_size=64, patch_size=8, window_size=4, global_attn_indexes=[1], mlp_dim=64, num_pos_feats=8,
    )  # fmt: skip
    return Entry("oto/sam_encoder", wrapped(build, "pixel_values"), lambda: ((images(64),), {}))


def lora() -> nn.Module:
    return adapt(LLAMA())


def retina_backbone() -> nn.Module:
    """ResNet-18 with a feature pyramid, as RetinaNet has it; a dict of maps."""
    utils = import_module("torchvision.models.detection.backbone_utils")
    return utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)


def ssdlite_backbone() -> nn.Module:
    """MobileNetV3 as SSDlite has it; a dict of maps."""
    detection = import_module("torchvision.models.detection")
    return detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5).backbone


def segmentation(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return import_module("torchvision.models").get_model(name, weights=None, weights_backbone=None, num_classes=5)

    return build


def resnet(**options: Any) -> nn.Module:
    """One bottleneck at each resolution, two at the second."""
    kinds = import_module("torchvision.models.resnet")
    return kinds.ResNet(kinds.Bottleneck, [1, 2, 1, 1], num_classes=10, **options)


def video() -> nn.Module:
    """One block of 3-d convolutions at each resolution."""
    kinds = import_module("torchvision.models.video.resnet")
    return kinds.VideoResNet(kinds.BasicBlock, [kinds.Conv3DSimple] * 4, [1, 1, 1, 1], kinds.BasicStem, num_classes=10)


def maxvit() -> nn.Module:
    kind = import_module("torchvision.models.maxvit").MaxVit
    return kind(
        input_size=(64, 64), stem_channels=16, partition_size=4, block_channels=[16, 32], block_layers=[1, 1], head_dim=8,
        stochastic_depth_prob=0.0, num_classes=10,
    )  # fmt: skip


def fcn() -> nn.Module:
    return import_module("torchvision.models.segmentation.fcn")._fcn_resnet(
        resnet(replace_stride_with_dilation=[False, True, True]), 5, aux=None
    )


def densenet() -> nn.Module:
    kind = import_module("torchvision.models.densenet").DenseNet
    return kind(growth_rate=12, block_config=(2, 3, 3, 2), num_init_features=24, num_classes=10)


def convnext() -> nn.Module:
    kinds = import_module("torchvision.models.convnext")
    widths = (24, 48, 96, 192)
    blocks = [
        kinds.CNBlockConfig(w, after, 1 + (w == 96)) for w, after in zip(widths, (*widths[1:], None), strict=True)
    ]
    return kinds.ConvNeXt(blocks, num_classes=10)


def vgg(widths: list[int], *, norms: bool) -> nn.Module:
    """Pooling behind every second layer; the last layers are as wide as those of VGG, the linear ones narrower."""
    kinds = import_module("torchvision.models.vgg")
    plan = [entry for i, w in enumerate([*widths, 512]) for entry in ([w, "M"] if i % 2 else [w])]
    network = kinds.VGG(kinds.make_layers(plan, batch_norm=norms), num_classes=10, init_weights=False)
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    network.classifier = nn.Sequential(
        nn.Linear(2048, 128), nn.ReLU(True), nn.Dropout(), nn.Linear(128, 128), nn.ReLU(True), nn.Linear(128, 10)
    )
    return network


def vision_transformer() -> nn.Module:
    kind = import_module("torchvision.models.vision_transformer").VisionTransformer
    return kind(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10)


def swin_transformer(block: str = "SwinTransformerBlock", merging: str = "PatchMerging") -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        swin = import_module("torchvision.models.swin_transformer")
        return swin.SwinTransformer(
            patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=10,
            block=getattr(swin, block), downsample_layer=getattr(swin, merging),
        )  # fmt: skip

    return build


TIMM = (
    timm("coatnet_nano_rw_224", img_size=64),
    timm("convnext_atto"),
    timm("deit_tiny_patch16_224", img_size=64, depth=2),
    timm("efficientformerv2_s0", img_size=64),
    timm("efficientnet_lite0"),
    timm("fastvit_t8"),
    timm("ghostnet_050"),
    timm("levit_128s", img_size=64),
    timm("maxvit_nano_rw_256", img_size=64),
    timm("mixer_s32_224", img_size=64),
    timm("mobilenetv4_conv_small"),
    timm("mobilevit_xxs"),
    timm("nfnet_f0", depths=(1, 1, 1, 1), channels=(32, 64, 128, 128), num_features=256, group_size=16),
    timm("poolformer_s12"),
    timm("regnety_002"),
    timm("repvgg_a0"),
    timm("resnetv2_50", layers=(1, 2, 1, 1)),
    timm("resnetv2_50d_gn", layers=(1, 2, 1, 1)),
    timm("swin_tiny_patch4_window7_224", 56, img_size=56, depths=(1, 1, 1, 1)),
    timm("vit_base_patch16_clip_224", img_size=64, depth=2, embed_dim=64, num_heads=4),
    timm("vit_tiny_patch16_224", img_size=64, depth=2),
)

MORE_TIMM = (timm("convnextv2_atto", depths=(1, 1, 2, 1)),)

TORCHVISION = (
    of_image("tv/convnext_tiny", convnext, 64),
    of_image("tv/deeplabv3_mobilenet", segmentation("deeplabv3_mobilenet_v3_large"), 64),
    of_image("tv/densenet121", densenet, 64),
    torchvision("efficientnet_b0"),
    torchvision("googlenet", init_weights=False, aux_logits=False),
    torchvision("googlenet_aux", model="googlenet", init_weights=False, aux_logits=True),
    torchvision("inception_v3", 96, init_weights=False, aux_logits=False),
    of_image("tv/lraspp_mobilenet", segmentation("lraspp_mobilenet_v3_large"), 64),
    torchvision("mnasnet0_5"),
    torchvision("mobilenet_v3_small", 32),
    torchvision("regnet_y_400mf", 32),
    of_image("tv/resnet50", resnet, 32),
    of_image("tv/resnext50", lambda: resnet(groups=32, width_per_group=4), 32),
    torchvision("squeezenet1_1"),
    of_image("tv/swin", swin_transformer(), 32),
    of_image("tv/vgg11", lambda: vgg([16, 32, 64, 64, 128, 128], norms=False)),
    of_image("tv/vgg16_bn", lambda: vgg([16, 16, 32, 32, 64, 64, 128, 128], norms=True)),
    of_image("tv/vit", vision_transformer),
)

MORE_TORCHVISION = (
    torchvision("vit_b_16", 32, image_size=32),
    of_image("tv/swin_v2", swin_transformer("SwinTransformerBlockV2", "PatchMergingV2"), 32),
    of_image("tv/maxvit", maxvit, 64),
    torchvision("shufflenet_v2_x0_5"),
    torchvision("inception_v3_aux", 96, model="inception_v3", init_weights=False, aux_logits=True),
    called("tv/r3d", video, (3, 4, 32, 32)),
    of_image("tv/fcn_resnet50", fcn, 64),
    of_image("tv/retinanet_backbone", retina_backbone, 64),
    of_image("tv/ssdlite_backbone", ssdlite_backbone, 64),
)

OTO_TEXT = (
    embeds("oto/bert_embeds", BERT),
    with_ids("oto/bert_ids_raw", BERT),
    ids_wrapped("oto/bert_ids_wrapped", BERT),
    embeds("oto/llama_embeds", LLAMA, use_cache=False),
    with_ids("oto/llama_ids_raw", LLAMA),
    ids_wrapped("oto/llama_ids_wrapped", LLAMA, use_cache=False),
    embeds("oto/llama_lora_embeds", lora, use_cache=False),
    embeds("oto/phi2_embeds", PHI, use_cache=False),
    ids_wrapped("oto/phi2_ids_wrapped", PHI, use_cache=False),
    sam(),
    whisper(),
    torchvision("shufflenet", model="shufflenet_v2_x1_0"),
)

TP_TEXT = (
    Entry("tp/hf_swin", wrapped(SWIN, "pixel_values"), lambda: ((images(32),), {})),
    Entry("tp/hf_vit", wrapped(VIT, "pixel_values"), lambda: ((images(32),), {})),
    embeds("tp/llama_gqa_embeds", LLAMA_GROUPED, use_cache=False),
    ids_wrapped("tp/llama_gqa_ids", LLAMA_GROUPED, use_cache=False),
)

MORE_TRANSFORMERS = (
    with_ids("hf/bert", transformers("BertModel", "BertConfig", **TEXT)),
    with_ids(
        "hf/distilbert",
        transformers(
            "DistilBertModel", "DistilBertConfig", vocab_size=WORDS, dim=32, n_layers=2, n_heads=4, hidden_dim=64
        ),
    ),
    with_ids(
        "hf/gpt2", transformers("GPT2LMHeadModel", "GPT2Config", vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4)
    ),
    with_ids("hf/llama_gqa", LLAMA_GROUPED),
    Entry("hf/vit", VIT, lambda: ((images(32),), {})),
    whisper_encoder(),
)
