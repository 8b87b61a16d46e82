"""Speed: what a mask costs in each library, as a multiple of multiplying the array once.

Claim: a mask at the cost of its entropy, and one bit an element kept for the backward pass.
Run: scripts/benchmark, about twenty minutes on two quiet cores (--quick: a few seconds).
Expect: flax.nnx.Dropout costs ten times as much or more on a CPU, and keeps eight bits an element.

Everything is measured in one process, round after round, each round taking one sample of every
library and of the floor, so that what slows the machine for a while slows all of them. XLA is
left at its defaults.
"""
