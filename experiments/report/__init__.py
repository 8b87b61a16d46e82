"""Tables and figures, made from the records. Imports no jax."""
