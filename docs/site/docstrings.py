"""A Griffe extension: our docstrings as the site's generator expects them.

An equation gets blank lines around it, so that it is set as a display, and `Example:` becomes
`Examples:`, the section whose `>>>` lines are shown as code.
"""

import re

import griffe

EQUATION = re.compile(r"[ \t]*\n([ \t]*)(\$\$.*?\$\$)[ \t]*(?=\n|\Z)", re.DOTALL)
EXAMPLE = re.compile(r"^([ \t]*)Example:", re.MULTILINE)


def spaced(text: str) -> str:
    """The text of a docstring with its equations and examples set apart."""
    text = EQUATION.sub(lambda m: f"\n\n{m[1]}{' '.join(m[2].split())}\n", text)
    return EXAMPLE.sub(r"\1Examples:", text)


class Docstrings(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = spaced(obj.docstring.value)
