"""What a check has found: what is wrong, where, how it is known, and what to write instead."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is wrong with the dropout of a model."""

    problem: str
    """its name, one of `PROBLEMS`"""
    where: str
    how: str
    """the evidence, with the chance that a sound model shows it"""
    instead: str

    def __str__(self) -> str:
        return (
            f"{PROBLEMS[self.problem]}\n  where:   {self.where}\n  because: {self.how}\n"
            f"  instead: {self.instead}"
        )


PROBLEMS = {
    "constant": "The mask is the same in every step.",
    "compiled": "The mask is the same in every step once the model is compiled.",
    "batch": "All examples of a batch share one mask.",
    "evaluation": "Dropout is on in evaluation.",
    "training": "Dropout is off in training.",
    "outputs": "Dropout is on the outputs of the model.",
    "gradient": "The backward pass has another mask than the forward pass.",
    "rate": "The share that is dropped is not the rate.",
    "scale": "What is kept is not scaled by 1 / (1 - rate), so that the mean changes.",
    "sites": "Two places have the same mask.",
    "norm": "Batch normalisation sees another variance in training than in evaluation.",
}
"""The problems that are looked for, in words."""


def chance(value: float) -> str:
    """A probability, for a sentence."""
    return f"at most {value:.0e}" if value > 1e-30 else "less than 1e-30"
