"""The content of a data set, including its texts and vectors, and what in it may mislead."""
