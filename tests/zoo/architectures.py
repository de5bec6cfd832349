"""Architectures of timm, torchvision and transformers with seeded random weights, each with a call of it."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.zoo.torchvision_models import import_torchvision

Call = tuple[tuple[Any, ...], dict[str, Any]]

TIMM = (
    "resnet18",
    "resnetv2_50",
    "regnetx_002",
    "regnety_002",
    "efficientnet_b0",
    "tf_efficientnetv2_b0",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "mnasnet_small",
    "densenet121",
    "inception_v3",
    "inception_v4",
    "xception41",
    "dpn48b",
    "dla34",
    "hrnet_w18_small",
    "ghostnet_100",
    "ghostnetv2_100",
    "rexnet_100",
    "fbnetc_100",
    "tinynet_e",
    "hardcorenas_a",
    "selecsls42b",
    "res2net50_26w_4s",
    "resnest14d",
    "skresnet18",
    "seresnet18",
    "ecaresnet26t",
    "nf_regnet_b0",
    "nfnet_l0",
    "repvgg_a0",
    "cspresnet50",
    "cspdarknet53",
    "vovnet39a",
    "convnext_atto",
    "convnextv2_atto",
    "poolformer_s12",
    "caformer_s18",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "cait_xxs24_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "twins_svt_small",
    "pit_ti_224",
    "levit_128s",
    "mvitv2_tiny",
    "pvt_v2_b0",
    "xcit_nano_12_p16_224",
    "crossvit_tiny_240",
    "coat_lite_tiny",
    "coatnet_nano_rw_224",
    "maxvit_tiny_tf_224",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "mobileone_s0",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvit_b0",
    "efficientvit_m0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "davit_tiny",
    "nest_tiny",
    "eva02_tiny_patch14_224",
    "beit_base_patch16_224",
    "mixer_s32_224",
    "resmlp_12_224",
    "gmlp_ti16_224",
    "tnt_s_patch16_224",
    "visformer_tiny",
    "volo_d1_224",
    "sequencer2d_s",
    "inception_next_atto",
    "starnet_s1",
    "tiny_vit_5m_224",
    "repvit_m0_9",
    "hgnetv2_b0",
    "lcnet_050",
    "hiera_tiny_224",
    "mambaout_femto",
    "botnet26t_256",
    "halonet26t",
    "lambda_resnet26t",
    "vit_relpos_small_patch16_224",
    "gernet_s",
    "tresnet_m",
    "vitamin_small_224",
    "nextvit_small",
    "convit_tiny",
    "bat_resnext26ts",
)

# name -> its room in torchvision.models, and the shape of its input
TORCHVISION: dict[str, tuple[str, tuple[int, ...]]] = {
    "fcn_resnet50": ("segmentation", (2, 3, 96, 96)),
    "deeplabv3_resnet50": ("segmentation", (2, 3, 96, 96)),
    "deeplabv3_mobilenet_v3_large": ("segmentation", (2, 3, 96, 96)),
    "lraspp_mobilenet_v3_large": ("segmentation", (2, 3, 96, 96)),
    "r3d_18": ("video", (2, 3, 8, 56, 56)),
    "mc3_18": ("video", (2, 3, 8, 56, 56)),
    "r2plus1d_18": ("video", (2, 3, 8, 56, 56)),
    "s3d": ("video", (1, 3, 16, 224, 224)),
    "mvit_v2_s": ("video", (1, 3, 16, 224, 224)),
    "swin3d_t": ("video", (1, 3, 8, 64, 64)),
    "raft_small": ("optical_flow", (1, 3, 128, 128)),
}

_TEXT = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_BERT = _TEXT | {"intermediate_size": 64}
_GROUPED = _BERT | {"num_key_value_heads": 2}
_SEQ2SEQ = {
    **{"vocab_size": 100, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
    **{"encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
}
_VISION = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_DILBERT = {"vocab_size": 100, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
_MOBILE = _BERT | {"embedding_size": 32, "intra_bottleneck_size": 32}
_RELATIVE = _BERT | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
_GPT2 = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4}
_OPT = _TEXT | {"ffn_dim": 64, "word_embed_proj_dim": 32}
_T5 = {"vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_WHISPER = _SEQ2SEQ | {
    **{"num_mel_bins": 8, "max_source_positions": 50, "pad_token_id": 0, "bos_token_id": 1},
    **{"eos_token_id": 2, "decoder_start_token_id": 1},
}
_WAVE = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    **{"conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3)},
    **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
}
_SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
_SEGFORMER = {
    **{"num_encoder_blocks": 4, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]},
    **{"num_attention_heads": [1, 2, 3, 4], "decoder_hidden_size": 16},
}

# name -> class of the model without "Model" or "Config", its own name, configuration, kind of input
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "bert": ("Bert", "BertModel", _BERT, "masked"),
    "distilbert": ("DistilBert", "DistilBertModel", _DILBERT, "masked"),
    "roberta": ("Roberta", "RobertaModel", _BERT, "masked"),
    "mobilebert": ("MobileBert", "MobileBertModel", _MOBILE, "masked"),
    "albert": ("Albert", "AlbertModel", _BERT | {"embedding_size": 16}, "masked"),
    "deberta_v2": ("DebertaV2", "DebertaV2Model", _RELATIVE, "masked"),
    "electra": ("Electra", "ElectraModel", _BERT | {"embedding_size": 32}, "masked"),
    "gpt2": ("GPT2", "GPT2LMHeadModel", _GPT2, "text"),
    "gpt_neox": ("GPTNeoX", "GPTNeoXForCausalLM", _BERT, "text"),
    "opt": ("OPT", "OPTForCausalLM", _OPT, "text"),
    "llama": ("Llama", "LlamaForCausalLM", _GROUPED, "text"),
    "mistral": ("Mistral", "MistralForCausalLM", _GROUPED, "text"),
    "qwen2": ("Qwen2", "Qwen2ForCausalLM", _GROUPED, "text"),
    "gemma2": ("Gemma2", "Gemma2ForCausalLM", _GROUPED | {"head_dim": 8}, "text"),
    "phi": ("Phi", "PhiForCausalLM", _BERT, "text"),
    "bloom": ("Bloom", "BloomForCausalLM", _TEXT, "text"),
    "mixtral": ("Mixtral", "MixtralForCausalLM", _GROUPED | {"num_local_experts": 4}, "text"),
    "mamba": (
        "Mamba",
        "MambaForCausalLM",
        {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2},
        "text",
    ),
    "t5": ("T5", "T5ForConditionalGeneration", _T5, "two texts"),
    "bart": ("Bart", "BartModel", _SEQ2SEQ, "masked"),
    "whisper": ("Whisper", "WhisperModel", _WHISPER, "spectrum"),
    "wav2vec2": ("Wav2Vec2", "Wav2Vec2Model", _WAVE, "wave"),
    "vit": ("ViT", "ViTModel", _VISION | {"intermediate_size": 64}, "image"),
    "dinov2": ("Dinov2", "Dinov2Model", _VISION, "image"),
    "swin": ("Swin", "SwinModel", _SWIN, "image"),
    "segformer": ("Segformer", "SegformerForSemanticSegmentation", _SEGFORMER, "large image"),
    "clip": ("CLIP", "CLIPModel", {}, "image and text"),
    "detr": ("Detr", "DetrForObjectDetection", {}, "large image"),
}

NAMES = (
    *(f"timm/{name}" for name in TIMM),
    *(f"torchvision/{name}" for name in TORCHVISION),
    *(f"transformers/{name}" for name in TRANSFORMERS),
)

SAMPLE = (
    *("timm/mobilenetv3_small_100", "timm/convnext_atto", "timm/lcnet_050", "timm/efficientvit_b0"),
    *(
        "torchvision/lraspp_mobilenet_v3_large",
        "transformers/bert",
        "transformers/gpt2",
        "transformers/llama",
    ),
    *("transformers/t5", "transformers/mixtral", "transformers/whisper", "transformers/segformer"),
)


def build(name: str) -> tuple[nn.Module, Call]:
    """Return the architecture of a name such as "timm/resnet18" in evaluation mode, and a call of it."""
    package, _, own = name.partition("/")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, call = _BUILDERS[package](own)
    return model.eval(), call


def _timm(name: str) -> tuple[nn.Module, Call]:
    import_torchvision()
    model = importlib.import_module("timm").create_model(name, pretrained=False)
    return model, ((torch.randn(2, *model.default_cfg["input_size"]),), {})


def _torchvision(name: str) -> tuple[nn.Module, Call]:
    room, shape = TORCHVISION[name]
    models = importlib.import_module(f"{import_torchvision().__name__}.models.{room}")
    options = {"weights_backbone": None} if room == "segmentation" else {}
    model = getattr(models, name)(weights=None, **options)
    if room == "optical_flow":
        return model, ((torch.rand(shape) * 2 - 1, torch.rand(shape) * 2 - 1), {"num_flow_updates": 2})
    return model, ((torch.randn(shape),), {})


def _transformers(name: str) -> tuple[nn.Module, Call]:
    transformers = import_transformers()
    family, own, options, kind = TRANSFORMERS[name]
    if name == "clip":
        vision, text = _VISION | {"intermediate_size": 64}, _BERT | {"max_position_embeddings": 16}
        options = {"text_config": text, "vision_config": vision, "projection_dim": 16}
    if name == "detr":
        resnet = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=["stage4"]
        )
        backbone = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
        sizes = {key: value for key, value in _SEQ2SEQ.items() if key != "vocab_size"}
        options = {**sizes, **backbone, "backbone_config": resnet, "num_queries": 5}
    config = getattr(transformers, f"{family}Config")(**options)
    return getattr(transformers, own)(config), ((), _inputs(kind))


def import_transformers() -> Any:
    """Import transformers, whose image models import torchvision."""
    import_torchvision()
    return importlib.import_module("transformers")


def _inputs(kind: str) -> dict[str, torch.Tensor]:
    ids, mask = torch.randint(3, 100, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    return {
        "masked": {"input_ids": ids, "attention_mask": mask},
        "text": {"input_ids": ids},
        "two texts": {"input_ids": ids, "decoder_input_ids": ids.flip(1)},
        "spectrum": {"input_features": torch.randn(2, 8, 100), "decoder_input_ids": ids},
        "wave": {"input_values": torch.randn(2, 1600)},
        "image": {"pixel_values": torch.randn(2, 3, 32, 32)},
        "large image": {"pixel_values": torch.randn(2, 3, 64, 64)},
        "image and text": {
            "input_ids": ids,
            "attention_mask": mask,
            "pixel_values": torch.randn(2, 3, 32, 32),
        },
    }[kind]


_BUILDERS: dict[str, Callable[[str], tuple[nn.Module, Call]]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}
