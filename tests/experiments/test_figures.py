"""The figures of the paper's experiments, of made-up records."""

import base64

import numpy as np
import pytest
from helpers.paper_records import by_row, write
from helpers.tables import rows
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from experiments import (
    architectures_figure4,
    dataset_size_figure10,
    features_figures7_8,
    monte_carlo_figure11,
    rate_figure9,
)
from experiments.records import record
from experiments.report import blocks, drawing, style


def made_up(folder):
    """A few records for every figure."""
    for module, prefix in ((architectures_figure4, ""), (rate_figure9, ""),
                           (dataset_size_figure10, "")):  # fmt: skip
        for row in list(by_row(module))[:4]:
            write(folder, module, prefix + row, [1.0, 1.2])
    sds = {"1": [0.2, 0.2], "3": [0.1, 0.1]}
    extra = {"final": {f"mc_error_{k}": [1.5, 1.6] for k in sds}, "sd_over_draws": sds}
    write(folder, monte_carlo_figure11, "dropout_relu_maxnorm_3x1024", [1.0, 1.2], extra=extra)
    packed = base64.b64encode(np.arange(64 * 16, dtype=np.int64).astype(np.int8).tobytes()).decode()
    shown = {"filters": packed, **features_figures7_8.histograms(np.ones((3, 4)))}
    for row, rate in (("standard", 0.0), ("dropout", 0.5)):
        names = ("test_reconstruction", "mean_activity", "zero_percent")
        result = {"final": dict.fromkeys(names, [1.0, 1.2, 1.4]), "extra": {"updates": 5, **shown}}
        config = features_figures7_8.Config(row=row, rate=rate)
        record.write("features_figures7_8", config, result, data_sha256="ab", wall_seconds=1,
                     folder=folder)  # fmt: skip


def drawn(folder, name, figure):
    """The figure of a name, on records of a folder."""
    module = blocks.figures()[name]
    module.draw(figure, module.records(folder))


def test_figures_are_drawn_and_know_their_records(tmp_path):
    made_up(tmp_path)
    for name in ("figure_4", "figures_7_8", "figure_9", "figure_10", "figure_11"):
        module, path = blocks.figures()[f"{name}.png"], tmp_path / "figures" / f"{name}.png"
        drawing.save(module, tmp_path, path)
        assert path.stat().st_size > 5000
        assert drawing.source_of(path) == drawing.digest(drawing.sources(module, tmp_path))
    found = rows(blocks.table("features_figures7_8", tmp_path))
    assert [r["mean activity, published"] for r in found] == ["2.0", "0.7"]


def test_ours_and_the_paper_s_points_are_where_they_belong(tmp_path):
    write(tmp_path, rate_figure9, "n_fixed_0.9", [3.0, 3.2])
    write(tmp_path, rate_figure9, "n_fixed_0", [1.6, 1.8])
    figure = Figure()
    drawn(tmp_path, "figure_9.png", figure)
    lines = [container.lines[0] for container in figure.axes[0].containers]
    theirs, ours = lines[0].get_xydata(), lines[1].get_xydata()
    assert dict(theirs.tolist())[0.9] == 3.19
    assert ours == pytest.approx(np.array([[0, 1.7], [0.9, 3.1]]))
    assert len(figure.axes[1].containers) == 1  # no record with pn fixed
    assert not figure.axes[0].texts
    write(tmp_path, rate_figure9, "n_fixed_0.8", [15.0, 15.4])  # off the axis
    drawn(tmp_path, "figure_9.png", again := Figure())
    assert [text.get_text() for text in again.axes[0].texts] == ["15 %"]


def labels(axis):
    return " ".join(axis.get_legend_handles_labels()[1])


def test_the_legends_of_figures_9_and_10_name_the_nets(tmp_path):
    """Ours at the CPU budget are smaller than the paper's."""
    for row in ("n_fixed_0", "n_fixed_0.9", "pn_fixed_0", "pn_fixed_0.3", "pn_fixed_0.9"):
        write(tmp_path, rate_figure9, row, [1.0, 1.2], budget="cpu")
    figure = Figure()
    drawn(tmp_path, "figure_9.png", figure)
    n_fixed, pn_fixed = map(labels, figure.axes)
    assert "paper, test (2048-2048-2048)" in n_fixed and "512-512-512, 10000 images" in n_fixed
    assert (
        "paper, test (pn = 256-256-512)" in pn_fixed and "pn = 64-64-128, 10000 images" in pn_fixed
    )
    write(tmp_path, dataset_size_figure10, "dropout_100", [26.0, 27.0], budget="cpu")
    figure = Figure()
    drawn(tmp_path, "figure_10.png", figure)
    found = labels(figure.axes[0])
    assert "paper, dropout (1024-1024-2048)" in found and "512-512-1024" in found


def test_the_arms_of_figure_8_share_their_axes(tmp_path):
    made_up(tmp_path)
    figure = Figure()
    drawn(tmp_path, "figures_7_8.png", figure)
    for left, right in (figure.axes[2:4], figure.axes[4:6]):
        assert 1 < left.get_xlim()[1] <= 1.1  # all activities are 1: to the end of their bin
        left.set_xlim(0, 7)
        assert right.get_xlim() == (0, 7)
    assert "factor of 0.5" in blocks.table("features_figures7_8", tmp_path)


@pytest.mark.parametrize(("updates", "points"), [(6_000, 0), (12_000, 1), (24_000, 2)])
def test_the_range_of_figure_4_shows_at_few_points(tmp_path, updates, points):
    write(tmp_path, architectures_figure4, "dropout_2x1024", [1.4, 1.6], updates=updates)
    figure = Figure()
    drawn(tmp_path, "figure_4.png", figure)
    bars = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    dropout, standard = ([s.tolist() for s in c.get_segments()] for c in bars)
    assert len(dropout) == len(standard) == points
    if points:
        assert dropout[0] == [[10_000, 1.69], [10_000, 2.04]]
        assert standard[0] == [[10_000, 1.73], [10_000, 2.62]]


def test_the_curves_of_figure_4_are_told_apart(tmp_path):
    for net in ("2x1024", "3x1024", "4x1024", "2x2048"):
        for arm in ("dropout", "standard"):
            write(tmp_path, architectures_figure4, f"{arm}_{net}", [1.4, 1.6], updates=24_000)
    figure = Figure()
    drawn(tmp_path, "figure_4.png", figure)
    left, right = (axis.get_lines() for axis in figure.axes)
    assert len({(line.get_color(), line.get_linestyle()) for line in left}) == len(left) == 6
    assert [line.get_label() for line in left][1] == "dropout, 3 layers"
    assert [line.get_label() for line in right] == ["dropout, 2 layers", "no dropout, 2 layers"]
    assert [axis.get_title() for axis in figure.axes] == [
        "layers of 1024 units",
        "layers of 2048 units",
    ]


def test_dropout_and_no_dropout_have_one_colour_each_in_all_figures(tmp_path):
    made_up(tmp_path)
    for name in ("figure_4.png", "figure_10.png", "figures_7_8.png"):
        figure = Figure()
        drawn(tmp_path, name, figure)
        assert "MNIST" in figure.get_suptitle(), name
        assert {style.DROPOUT, style.NO_DROPOUT} <= colours(figure), name


def colours(figure):
    """The colours of all lines and patches."""
    drawn = [artist for axis in figure.axes for artist in (*axis.lines, *axis.patches)]
    found = [a.get_color() if hasattr(a, "get_color") else a.get_facecolor() for a in drawn]
    return {to_hex(colour).upper() for colour in found}
