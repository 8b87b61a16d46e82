"""Compile dropout for a GPU without having one: kernels, bytes and operations of the program.

Compiled ahead of time, for the device that `H200` describes; nothing runs, and nothing is timed.
It takes the compiler for NVIDIA GPUs, which `pip install "jax[cuda13]"` brings, and no GPU.
Operations are those of the program that XLA's code generator gets: a shift is one, and so is a
product. Those of `dropout_jax.kernel`, which is no program of XLA's, are not counted.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.benchmark import libraries, suites
from experiments.benchmark.backward import forward_and_backward
from experiments.harness.cli import text_table
from experiments.records.libraries import FLOOR, OURS_KERNEL

# NVIDIA's figures for the SXM part, in the words of XLA's GpuTargetConfigProto.
H200 = """
platform_name: "CUDA" device_description_str: "NVIDIA H200" dnn_version_info { major: 9 minor: 10 }
gpu_device_info {
  cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 threads_per_warp: 32
  clock_rate_ghz: 1.98 memory_bandwidth: 4800000000000 device_memory_size: 151397597184
  l2_cache_size: 52428800 shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
}"""
DEVICE = "NVIDIA H200"
SHAPE, DTYPE, RATES = (8192, 8192), "bfloat16", (0.5, 0.1)
BYTES = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "s64": 8, "u64": 8}
# Names and shapes, but no work: the code generator makes addresses or constants of them.
FREE = ("parameter", "constant", "broadcast", "iota", "bitcast", "reshape", "slice", "tuple",
        "get-tuple-element", "concatenate")  # fmt: skip
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(?:,|$)")


def compiled(found: suites.Libraries, plan: suites.Plan) -> Iterator[suites.Row]:
    """A row a library, rate and work: kernels, and bytes and operations an element.

    Of the `found` libraries, the floor and the GPU's kernel; the plan has no say in this.
    """
    compile_ = compiler()
    found = {FLOOR: libraries.Library(libraries.floor), **found, **libraries.on_gpu()}
    key, x = jax.eval_shape(jax.random.key, 0), jax.ShapeDtypeStruct(SHAPE, DTYPE)
    for rate in RATES:
        for name, library in found.items():

            def forward(key, x, apply=library.apply, rate=rate):
                return apply(key, x, rate)

            for work, f in (("forward", forward), ("both passes", forward_and_backward(forward))):
                kernels, moved, operations = work_of(compile_(f, key, x))
                known = name != OURS_KERNEL
                yield {
                    "suite": "compiled",
                    "device": DEVICE,
                    "shape": list(SHAPE),
                    "dtype": DTYPE,
                    "work": work,
                    "rate": rate,
                    "library": name,
                    "version": library.version,
                    "kernels": kernels,
                    "bytes": round(moved / x.size, 3),
                    "operations": round(operations / x.size, 2) if known else None,
                }


def table(rows: Sequence[suites.Row]) -> str:
    """One aligned line a row."""
    header = ("library", "rate", "work", "kernels", "bytes", "operations")
    return text_table(header, [[row[name] for name in header] for row in rows])


def without_a_driver() -> None:
    """Let JAX load the compiler all the same; to be called before it looks for devices."""
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")


def compiler() -> Callable[..., str]:
    """f and the shapes of its arguments -> the program that XLA would run on an H200."""
    try:
        topology = topologies.get_topology_desc(
            "h200", "cuda", topology="1x1x1", target_config=H200
        )
    except NotImplementedError:
        raise SystemExit(
            "error: JAX has no compiler for NVIDIA GPUs here; pip install 'jax[cuda13]'"
        ) from None
    mesh = Mesh(np.array(topology.devices), ("device",))
    here = NamedSharding(mesh, PartitionSpec())

    def compile_(f, *args):
        args = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here) for a in args]
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            lowered = jax.jit(f).trace(*args).lower(lowering_platforms=("cuda",))
        return lowered.compile().as_text()

    return compile_


def work_of(program: str) -> tuple[int, int, int]:
    """Kernels of a compiled program, the bytes that they read and write, and their operations.

    Of a program without loops; of an operand all is read, even where a kernel takes a slice of it.
    """
    computations, entry = _computations(program)
    size = {name: _bytes(shape) for name, shape, _, _ in entry}
    kernels = [line for line in entry if line[2] not in FREE]
    moved = sum(
        size[name] + sum(size.get(operand, 0) for operand in re.findall(r"%([\w.-]+)", rest))
        for name, _, _, rest in kernels
    )
    inside = [line for body in computations for line in body if line[2] not in FREE]
    return len(kernels), moved, sum(_elements(shape) for _, shape, _, _ in inside)


def _computations(program: str):
    """The instructions (name, shape, operation, operands) of each fusion, and of the program."""
    fusions, entry, body = [], [], None
    for line in program.splitlines():
        if line.startswith(("%", "ENTRY")):
            body = []
            if line.startswith("ENTRY"):
                entry = body
            else:
                fusions.append(body)
        elif found := INSTRUCTION.match(line):
            body.append(found.groups())
    return fusions, entry


def _arrays(shape: str) -> list[tuple[str, int]]:
    found = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return [(kind, math.prod(int(n) for n in sizes.split(",") if n)) for kind, sizes in found]


def _bytes(shape: str) -> int:
    return sum(BYTES[kind] * elements for kind, elements in _arrays(shape))


def _elements(shape: str) -> int:
    return sum(elements for _, elements in _arrays(shape))
