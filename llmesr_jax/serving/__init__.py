"""Serving a trained model: raw histories in, raw item ids out. Bundles need only jax, numpy and flatbuffers."""
