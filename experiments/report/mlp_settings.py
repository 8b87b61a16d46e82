"""How the tables show the settings of an MLP's run: one entry a setting. Standard library only."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.records.record import Record

Config = Mapping[str, Any]


class Setting(NamedTuple):
    """What a table says of a setting; nothing where it has its default.

    Records that are older than a setting do not name it: they are runs at its default.
    """

    shown: Callable[[Config], str]
    default: Any = None


def learning_rate(config: Config) -> str:
    factors = config.get("weight_factors")
    rates = "/".join(f"{config['learning_rate'] * factor:g}" for factor in factors or (1,))
    return f"lr {rates}" + (f", of biases {config['learning_rate']:g}" if factors else "")


def momentum(config: Config) -> str:
    ends = [v for v in (config["momentum_start"], config["momentum"]) if v is not None]
    curved = " exponentially" if config.get("momentum_ramp") == "exponential" else ""
    return "momentum " + " to ".join(f"{v:g}" for v in ends) + curved


def number(name: str, title: str) -> Callable[[Config], str]:
    return lambda config: f"{title} {config[name]:g}"


def layers(name: str, title: str, digits: str = "g") -> Callable[[Config], str]:
    return lambda config: f"{title} " + "/".join(f"{value:{digits}}" for value in config[name])


SETTINGS = {
    "learning_rate": Setting(learning_rate),
    "max_norm": Setting(layers("max_norm", "c")),
    "momentum": Setting(momentum),
    "l2": Setting(number("l2", "L2"), 0.0),
    "l1": Setting(number("l1", "L1"), 0.0),
    "kl_sparsity": Setting(number("kl_sparsity", "KL"), 0.0),
    "alpha": Setting(number("alpha", "alpha"), 0.0),
    "init_deviations": Setting(layers("init_deviations", "initial sd", ".2g")),
    "life": Setting(lambda config: f"thinned, life {config['life']}", 0),
    "products": Setting(lambda config: f"{config['products']} products", "float32"),
}
# Those that are part of the text of another, or change no number to speak of.
SILENT = {
    "weight_factors": None,
    "momentum_ramp": "linear",
    "momentum_share": 0.0,
    "in_turn": False,
    "tuned_at": 0,
}
DEFAULTS = {**{name: setting.default for name, setting in SETTINGS.items()}, **SILENT}
TRAINING = ("life", "products")  # how a run was trained; arms that differ in it are not compared


def settings(r: Record) -> str:
    """All settings of a run that are not at their default, in short."""
    return ", ".join(_shown(r, SETTINGS))


def how_trained(r: Record) -> list[str]:
    """Thinned sub-networks, rounded products: how a run was trained, where not as usual."""
    return _shown(r, TRAINING)


def training(r: Record) -> tuple[Any, ...]:
    """The same for runs that were trained alike."""
    return tuple(r.config.get(name, SETTINGS[name].default) for name in TRAINING)


def _shown(r, names):
    found = {name: SETTINGS[name] for name in names}
    return [
        setting.shown(r.config)
        for name, setting in found.items()
        if r.config.get(name, setting.default) != setting.default
    ]
