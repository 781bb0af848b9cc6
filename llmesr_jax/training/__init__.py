"""A run: its settings, batches, steps, loop, state and checkpoints."""
