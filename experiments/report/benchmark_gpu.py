"""The benchmark on a GPU, but for dropout alone, which stands beside a CPU's."""

from pathlib import Path

from experiments.report import benchmark, benchmark_more
from experiments.report.benchmark_rows import suites_tables


def table(results: Path) -> str:
    suites = {"grad": benchmark.grad, "train_step": benchmark.train_step, **benchmark_more.SUITES}
    return suites_tables(results, {f"{name}_gpu": make for name, make in suites.items()})
