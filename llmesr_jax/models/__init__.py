"""Backbones, methods, and what they are made of."""
