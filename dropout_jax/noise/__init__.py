"""Noise functions: dropout and its family, one kind of noise a file."""
