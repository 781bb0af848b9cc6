"""Layers that several backbones or methods are made of."""
