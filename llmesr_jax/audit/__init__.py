"""What is in a data set, its texts and vectors included, and what in it would mislead."""
