"""Widths that the training benchmarks build networks of, as their folders in the diffusers format state them."""

from typing import Any

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_BIG_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
# stable-diffusion-v1-5/stable-diffusion-v1-5
SD15: dict[str, Any] = {
    "unet": {
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "vae": {"block_out_channels": (128, 256, 512, 512)},
    "texts": [CLIP_L],
}
# stabilityai/stable-diffusion-xl-base-1.0
SDXL: dict[str, Any] = {
    "unet": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "vae": {"block_out_channels": (128, 256, 512, 512), "scaling_factor": 0.13025},
    "texts": [CLIP_L, CLIP_BIG_G],
}

# A quarter of every width of SD 1.5, at a quarter of its side. Attention weighs less over so few tokens, so the last two
# widths of the autoencoder are 112 and not 128: encoding is then to a forward pass as at 512 px, 1.12 to 0.80 TFLOP.
QUARTER: dict[str, Any] = {
    "unet": {
        "block_out_channels": (80, 160, 320, 320),
        "cross_attention_dim": 192,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
    },
    "vae": {"block_out_channels": (32, 64, 112, 112), "norm_num_groups": 8},
    "texts": [{"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 3, "num_attention_heads": 4}],
}

# As small as the layout allows: for what grows with the number of pairs, and not with the network. Pictures of 16 pixels.
TINY: dict[str, Any] = {
    "unet": {
        "block_out_channels": (8, 16),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    },
    "vae": {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1},
    "texts": [{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}],
}
TINY_XL: dict[str, Any] = {
    **TINY,
    "unet": {
        **TINY["unet"],
        "cross_attention_dim": 32,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 16,
    },
    "texts": [*TINY["texts"], {**TINY["texts"][0], "projection_dim": 16}],
}
