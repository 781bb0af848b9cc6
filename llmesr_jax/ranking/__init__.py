"""From parameters to ranks and metrics: row layout, user and item vectors, ranking, evaluation."""
