"""From images to a folder of weights: data, recipe, evaluation and model card."""
