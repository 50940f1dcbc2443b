"""Train a VAE: data, recipe, evaluation and model card."""
