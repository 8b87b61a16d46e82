"""Arguments of other libraries that predictions do not have. For each, what to write here."""

_KEY = "the key comes first, as in dj.mc_predict(jax.random.key(0), model, x, samples=100)"
_SAMPLES = "write samples=100"
_BOTH = {
    "verbose": "there is no bar; leave it out",
    "steps": "all of x is predicted; leave it out",
    "callbacks": "leave it out",
}
SCALED = _BOTH | {
    "samples": "the whole network predicts once; dj.mc_predict draws samples",
    "key": "nothing is random here; dj.mc_predict draws sub-networks",
}
MC = _BOTH | {
    "rng": _KEY,
    "rngs": _KEY,
    "seed": _KEY,
    "n_samples": _SAMPLES,
    "num_samples": _SAMPLES,
}
