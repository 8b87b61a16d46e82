"""Find out whether dropout in a model does what it should: check_dropout."""
