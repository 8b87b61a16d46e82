"""Published single numbers by the name paper/table/row.

Every one is shown by a table or a page, beside ours.
"""

from experiments.records.literature import later, recipes, srivastava, thinner
from experiments.records.literature.number import Published

PUBLISHED: dict[str, Published] = (
    srivastava.PUBLISHED | later.PUBLISHED | recipes.PUBLISHED | thinner.PUBLISHED
)
