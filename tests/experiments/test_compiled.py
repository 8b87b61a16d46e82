"""What compiled programs launch and move. What would make this wrong: an operand that is not
counted or counted as work, a kernel that is none, a program that a compiler writes differently."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from experiments.benchmark import compiled, libraries
from experiments.benchmark.__main__ import main, suites
from experiments.report.compiled import compiled_rows

PROGRAM = """
%fused_draw (k: u32[2]) -> u32[4,2] {
  %k = u32[2]{0} parameter(0)
  %first = u32[1]{0} slice(%k), slice={[0:1]}
  %high = u32[4,2]{1,0} broadcast(%first), dimensions={}
  %low = u32[4,2]{1,0} iota(), iota_dimension=0
  ROOT %drawn = u32[4,2]{1,0} xor(%high, %low)
}

%fused_apply (x: bf16[4,64], w: u32[4,2]) -> (bf16[4,64], f32[]) {
  %x = bf16[4,64]{1,0} parameter(0)
  %wide = f32[4,64]{1,0} convert(%x)
  %w = u32[4,2]{1,0} parameter(1)
  %bits = u32[4,64]{1,0} broadcast(%w), dimensions={0,1}
  %zero = f32[] constant(0)
  %kept = f32[4,64]{1,0} select(%bits, %wide, %zero)
  ROOT %out = (bf16[4,64]{1,0}, f32[]) tuple(%kept, %zero)
}

ENTRY %main (k: u32[2], x: bf16[4,64]) -> bf16[4,64] {
  %k.1 = u32[2]{0} parameter(0), sharding={mesh['d'=1], [{}]}
  %x.1 = bf16[4,64]{1,0} parameter(1), metadata={op_name="x"}
  %words = u32[4,2]{1,0} fusion(%k.1), kind=kLoop, calls=%fused_draw, backend_config={"a":"b"}
  %both = (bf16[4,64]{1,0}, f32[]) fusion(%x.1, %words), kind=kLoop, calls=%fused_apply
  ROOT %y = bf16[4,64]{1,0} get-tuple-element(%both), index=0
}
"""


def test_each_kernel_counts_what_it_reads_and_writes():
    kernels, moved, operations = compiled.work_of(PROGRAM)
    assert kernels == 2
    assert moved == (8 + 32) + (512 + 32) + (512 + 4)
    assert operations == 8 + 2 * 256


@pytest.mark.parametrize("shape", [(512,), (4, 256)])
def test_a_program_of_this_jax_is_read(shape):
    x = jnp.ones(shape)
    program = jax.jit(lambda x: jnp.sin(x) * 2 + 1).lower(x).compile().as_text()
    kernels, moved, operations = compiled.work_of(program)
    assert (kernels, moved, operations) == (1, 2 * x.nbytes, 3 * x.size)


def test_rows_are_those_of_every_library_and_of_the_kernel(monkeypatch):
    known = libraries.installed()[0]
    monkeypatch.setattr(compiled, "compiler", lambda: lambda f, *args: PROGRAM)
    found = {name: known[name] for name in ("dropout_jax", "flax.nnx")}
    rows = list(compiled.compiled(found, suites.QUICK))
    assert len(rows) == 2 * 2 * 4 and [row["library"] for row in rows[::2]][:4] == [
        "x * c", "dropout_jax", "flax.nnx", "dropout_jax.kernel"
    ]  # fmt: skip
    assert all((r["operations"] is None) == (r["library"] == "dropout_jax.kernel") for r in rows)

    lines = compiled_rows(rows).splitlines()
    assert len(lines) == 2 + 4 and lines[-1].startswith("| dropout_jax.kernel | 2 / 2 | ")
    assert "–" in lines[-1] and "–" not in lines[2]


def test_without_a_compiler_for_gpus_one_line_says_what_to_install(monkeypatch):
    def absent(*args, **kwargs):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setenv("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # it sets this, and so it is unset
    monkeypatch.setattr(topologies, "get_topology_desc", absent)
    with pytest.raises(SystemExit, match=r"^error: .*pip install 'jax\[cuda13\]'$"):
        main(["--suites", "compiled"])
