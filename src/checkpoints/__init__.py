"""Networks as files: checkpoints and weights of several origins, and exported models."""
