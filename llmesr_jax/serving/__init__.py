"""A trained model as what answers: raw histories in, raw item ids out. What a bundle needs imports jax and numpy only."""
