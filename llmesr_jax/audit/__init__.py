"""Describes the content of a data set, with its texts and vectors, and warns of what may make results misleading."""
