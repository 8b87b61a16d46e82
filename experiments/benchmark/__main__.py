"""The command line of the benchmark; see scripts/benchmark."""

import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
from tqdm import tqdm

from experiments import benchmark
from experiments.benchmark import compiled, gpt, libraries, report, suites
from experiments.benchmark.attention import attention
from experiments.benchmark.family import family
from experiments.benchmark.fit import fit
from experiments.benchmark.fit import missing as missing_in_fit
from experiments.benchmark.fit import table as fit_table
from experiments.benchmark.thin import thin
from experiments.benchmark.thin_transformer import thin_transformer
from experiments.benchmark.transformer import transformer
from experiments.harness.cli import cli, user_errors
from experiments.records.provenance import command, provenance

Suite = Literal[
    "masks", "grad", "train_step", "thin", "thin_transformer", "family", "transformer", "fit",
    "gpt", "attention", "compiled",
]  # fmt: skip
SUITES = {
    "masks": suites.masks,
    "grad": suites.grad,
    "train_step": suites.train_step,
    "thin": thin,
    "thin_transformer": thin_transformer,
    "family": family,
    "transformer": transformer,
    "fit": fit,
    "gpt": gpt.gpt_step,
    "attention": attention,
    "compiled": compiled.compiled,
}


TABLES = {"compiled": compiled.table, "fit": fit_table, "gpt": gpt.table}
# A dispatch takes some 10 us, and has to take less than the device does.
GPU_SIZES = ((8192, 8192),)
GPU_BLOCK = (32, 512, 1024)  # of a transformer: what a CPU takes seconds for


@dataclass(frozen=True)
class Config:
    suites: tuple[Suite, ...] = (
        "masks", "grad", "train_step", "thin", "thin_transformer", "family", "transformer",
        "attention",
    )  # fmt: skip
    """what to measure; `compiled` measures nothing, and tells what XLA would give to a GPU"""
    sizes: tuple[str, ...] = ()
    """arrays of masks and grad, such as 128x1024; not given: three sizes, a larger one on a GPU"""
    quick: bool = False
    """tiny sizes and three rounds, to see that it runs: the times mean nothing"""
    out: Path = Path("runs")
    """folder for records and pictures; experiments/results holds those that are committed"""


def main(argv: list[str] | None = None) -> None:
    config = cli(Config, benchmark.__doc__, argv)
    if "compiled" in config.suites:
        compiled.without_a_driver()
    with user_errors():
        plan = make_plan(config)
    out = config.out / "benchmark"
    found, missing = libraries.installed()
    missing |= missing_in_fit() if "fit" in config.suites else {}
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}")
    for suite in config.suites:
        start, load = time.perf_counter(), os.getloadavg()[0]
        rows = list(tqdm(SUITES[suite](found, plan), desc=suite, unit="row", disable=None))
        table = TABLES.get(suite, report.table)
        print(f"\n{suite}\n{table(rows)}", flush=True)
        source = provenance("benchmark", data_sha256=None, wall_seconds=time.perf_counter() - start)
        source |= {
            "command": command("benchmark", ["benchmark", *(argv or sys.argv[1:])]),
            "malloc": os.environ.get("GLIBC_TUNABLES"),  # scripts/benchmark sets it
            "load_average_before": round(load, 2),
            "quick": config.quick,
            "missing": missing,
        }
        print(f"written: {report.write(suite, rows, source, out)}.json")


def make_plan(config: Config) -> suites.Plan:
    """What the flags ask for. Raises ValueError for a size that is not two numbers."""
    plan = suites.QUICK if config.quick else suites.Plan()
    on_gpu = jax.default_backend() == "gpu"
    if on_gpu:
        plan = plan._replace(mode="dispatched", block=plan.block if config.quick else GPU_BLOCK)
    if config.sizes:
        for size in config.sizes:
            if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", size):
                raise ValueError(f"--sizes has {size!r}; write rows x columns, such as 128x1024")
        return plan._replace(sizes=tuple(tuple(map(int, size.split("x"))) for size in config.sizes))
    if on_gpu and not config.quick:
        return plan._replace(sizes=GPU_SIZES)
    return plan


if __name__ == "__main__":
    main()
