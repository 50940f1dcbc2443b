"""Arguments of the smallest network of each class of diffusers that is supported."""

BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
TINY = {
    "AutoencoderKL": {**BLOCKS, "block_out_channels": [8, 8], "norm_num_groups": 4, "scaling_factor": 0.5},
    "AsymmetricAutoencoderKL": {
        **BLOCKS,
        "down_block_out_channels": [8, 8],
        "up_block_out_channels": [8, 8],
        "norm_num_groups": 4,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": [8, 8, 8],
        "decoder_block_out_channels": [8, 8, 8],
        "num_encoder_blocks": [1, 1, 1],
        "num_decoder_blocks": [1, 1, 1],
    },
    "AutoencoderDC": {
        "latent_channels": 4,
        "attention_head_dim": 4,
        "encoder_block_types": "ResBlock",
        "decoder_block_types": "ResBlock",
        "encoder_block_out_channels": [8, 8, 8],
        "decoder_block_out_channels": [8, 8, 8],
        "encoder_layers_per_block": [1, 1, 1],
        "decoder_layers_per_block": [1, 1, 1],
        "encoder_qkv_multiscales": [[], [], []],
        "decoder_qkv_multiscales": [[], [], []],
    },
    "VQModel": {**BLOCKS, "block_out_channels": [8, 8], "norm_num_groups": 4, "num_vq_embeddings": 8},
}
