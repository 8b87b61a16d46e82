"""The study of thinned training: what it runs."""

from experiments import thinned


def test_a_study_varies_what_it_says():
    def varied(name, **study):
        return [getattr(c, name) for c in thinned.configs(thinned.Study(**study))]

    assert varied("method") == ["none", "element", "thin"]
    assert varied("steps") == [None, None, 10]  # a life and blocks belong to thin alone
    assert varied("steps", study="life") == [1, 3, 10, 30, 100]
    assert varied("block", study="block") == [1, 16, 64]
    assert set(varied("validation")) == {0}
    assert set(varied("validation", study="tune")) == {10_000}  # never the test set
    assert varied("epochs", study="headline", runs=thinned.Config(epochs=400)) == [400]
    rates = (0.1, 0.2)
    assert varied("learning_rate", study="tune", methods=("thin",), learning_rates=rates) == [
        *rates
    ]
