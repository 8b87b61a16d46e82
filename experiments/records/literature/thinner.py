"""What thinner networks are said to save, in published numbers."""

from experiments.records.literature.number import rows

SPARSEDROP = "Lo 2024, arXiv:2411.01238"

PUBLISHED = (
    rows(
        "approximate_random_dropout",
        "Song et al. 2019, DATE",
        "abstract",
        "W",
        {
            "mlp/lowest": 1.18,
            "mlp/highest": 2.16,
        },
        unit="speed-up",
        note="rates 0.3 to 0.7",
    )
    | rows(
        "sisrt",
        "Sarma et al. 2021, NeurIPS",
        "abstract",
        "W",
        {"lstm/lowest": 1.23, "lstm/highest": 1.64},
        unit="speed-up",
    )
    | rows(
        "sliceout",
        "Notin et al. 2020",
        "abstract",
        "W",
        {"lowest": 10, "highest": 40},
        unit="% of time and memory saved",
    )
    | rows(
        "sparsedrop",
        SPARSEDROP,
        "Table 1, MLP",
        "P",
        {
            "dense/minutes": 1.94,
            "dropout/minutes": 2.78,
            "sparsedrop/minutes": 3.18,
        },
        unit="minutes",
    )
)
