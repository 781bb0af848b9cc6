"""Serving a trained model: raw histories in, raw item ids out. The code for bundles imports only jax and numpy."""
