"""Test error against epochs and against time, of thinned training and of what it replaces."""

from pathlib import Path

from matplotlib.figure import Figure

from experiments.records import stats
from experiments.report import figures, thinned_tables


def sources(results: Path) -> list[Path]:
    """The files that the figure is drawn from; none while one of them is missing."""
    runs = thinned_tables.study(results).get("compare", [])
    times = thinned_tables.benchmark_file(results)
    return [*(r.path for r in runs), times] if runs and times.exists() else []


def draw(results: Path, path: Path) -> None:
    """Two panels of the same curves; the unit of time is that of a whole run without dropout."""
    runs = thinned_tables.study(results)["compare"]
    times = thinned_tables.update_times(results)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for i, r in enumerate(runs):
        epochs = r.extra["evaluated_at"]
        by_epoch = zip(*r.by_epoch["test_error"], strict=True)
        mean, stderr = zip(*map(stats.mean_and_stderr, by_epoch), strict=True)
        share = times.get(thinned_tables.key(r))
        clocks = [(axes[0], epochs)]
        if share is not None:
            clocks.append((axes[1], [e / r.config["epochs"] * share for e in epochs]))
        label = f"{thinned_tables.name(r)} ({len(r.final['test_error'])} seeds)"
        for axis, clock in clocks:
            axis.plot(clock, mean, color=f"C{i}", label=label)
            if None not in stderr:
                low = [m - s for m, s in zip(mean, stderr, strict=True)]
                high = [m + s for m, s in zip(mean, stderr, strict=True)]
                axis.fill_between(clock, low, high, color=f"C{i}", alpha=0.3, lw=0)
    last = [stats.mean_and_stderr(r.final["test_error"])[0] for r in runs]
    axes[0].set(xlabel="epoch", ylabel="test error % (band: ± 1 s.e.)", ylim=(0.9, 2.2 * max(last)))
    axes[1].set(xlabel="time, in runs without dropout")
    axes[0].legend(frameon=False)
    figures.save(figure, path, sources(results))
