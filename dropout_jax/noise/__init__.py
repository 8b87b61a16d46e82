"""The rest of the family: one law of noise, or one way of sharing a draw, a file."""
