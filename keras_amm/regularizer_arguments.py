"""The arguments of `MarginRegularizer`: their ranges, the combinations that work, and the paper's values."""

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras

from keras_amm import aggregation as aggregations
from keras_amm.arguments import require_real, require_whole

_BOOLS = (True, False)
_GRADIENTS = ("unrolled", "masked", "boundary")
_NORMALIZATIONS = (None, "input", "median")
_MISCLASSIFIED = (None, "all", "farthest", "none")
_SEARCHES = ("exact", "ranks", "cheap", "rough")

# The arguments of which a configuration holds the values themselves.
PLAIN = """c d top_fraction max_penalty gradient screening only_successful interval misclassified normalize
    max_influence warmup_steps above_chance search relative_clipnorm""".split()

# What these arguments mean where a configuration does not have them: it was saved before they existed.
BEFORE_THEY_EXISTED: Mapping[str, Any] = MappingProxyType(
    {
        "misclassified": None,
        "normalize": None,
        "max_influence": None,
        "warmup_steps": 0,
        "above_chance": False,
        "search": "exact",
        "relative_clipnorm": None,
    }
)
# Beside strength, c and d: those of the authors' code.
_OF_AUTHORS = {"top_fraction": 0.2, "max_penalty": 50.0, "gradient": "unrolled", **BEFORE_THEY_EXISTED}
# Table 1 of the paper's appendix.
OF_PAPER: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        f"{aggregation}-{shrinkage}": MappingProxyType(
            {"aggregation": aggregation, "shrinkage": shrinkage, "strength": strength, "c": c, "d": d, **_OF_AUTHORS}
        )
        for aggregation, shrinkage, strength, c, d in (
            ("avg", "lin", 1.0, 4.0, 4.0),
            ("avg", "inv", 32.0, 4.0, 2.0),
            ("avg", "exp", 32.0, 2.0, 2.0),
            ("min", "lin", 1.0, 0.5, 4.0),
            ("min", "inv", 32.0, 1.0, 0.5),
            ("min", "exp", 32.0, 2.0, 1.0),
        )
    }
)


def for_new_model(regularizer: Any) -> Any:
    """The `MarginRegularizer` itself, or if it remembers the batches of a model already, a new one like it."""
    if regularizer.running is None:
        return regularizer
    parameters = inspect.signature(type(regularizer)).parameters.values()
    # A subclass may take arguments of its own, which by Keras's convention are attributes of the same name.
    names = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD and hasattr(regularizer, each.name)]
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        names += ["name", "strength", "aggregation", "shrinkage", *PLAIN]
    return type(regularizer)(**{name: getattr(regularizer, name) for name in names})


def require_valid(given: Mapping[str, Any]) -> None:
    """Refuse values out of their range and combinations that do not work; `given` holds the arguments by name.

    Raises:
        ValueError: one of the arguments, or a combination, is not valid.
    """
    _require_valid_strength(given["strength"], given["max_influence"])
    if given["relative_clipnorm"] not in (None, "auto"):
        require_real("relative_clipnorm", given["relative_clipnorm"], lambda v: v > 0, "greater than 0, 'auto' or None")
    for name in ("c", "d", "max_penalty"):
        require_real(name, given[name], lambda v: v > 0, "greater than 0")
    require_real("top_fraction", given["top_fraction"], lambda v: 0 < v <= 1, "in (0, 1]")
    require_whole("interval", given["interval"], 1)
    require_whole("warmup_steps", given["warmup_steps"], 0)
    for name, known in (
        ("above_chance", _BOOLS),
        ("only_successful", _BOOLS),
        ("gradient", _GRADIENTS),
        ("normalize", _NORMALIZATIONS),
        ("misclassified", _MISCLASSIFIED),
        ("search", _SEARCHES),
    ):
        if given[name] not in known:
            raise ValueError(f"`{name}` must be one of {known}. Received: {name}={given[name]!r}.")
    names = ("aggregation", "gradient", "screening", "only_successful", "search")
    _require_valid_search(**{name: given[name] for name in names})


def _require_valid_strength(strength: Any, max_influence: Any) -> None:
    if max_influence is not None:
        require_real("max_influence", max_influence, lambda v: v > 0, "greater than 0, or None")
    if isinstance(strength, str):
        if strength != "auto" or max_influence is None:
            raise ValueError(
                "`strength` must be a number, a LearningRateSchedule or, with `max_influence`, 'auto'. "
                f"Received: strength={strength!r}, max_influence={max_influence!r}."
            )
    elif not isinstance(strength, keras.optimizers.schedules.LearningRateSchedule):
        require_real("strength", strength, lambda v: v >= 0, "at least 0, a LearningRateSchedule or 'auto'")


def _require_valid_search(aggregation: Any, gradient: str, screening: Any, only_successful: bool, search: str) -> None:
    if screening is not None:
        if search != "exact":
            raise ValueError(
                "`screening` is for search='exact' alone. The other searches find out themselves which samples to "
                "leave out, and are faster: leave `screening` out, or pass search='exact' with it. "
                f"Received: screening={screening!r}, search={search!r}."
            )
        require_real("screening", screening, lambda v: 0 < v <= 1, "in (0, 1], or None")
        if not aggregations.find_entry(aggregation).counts_near_only:
            near = " or ".join(repr(e.identifier) for e in aggregations.ENTRIES if e.counts_near_only)
            raise ValueError(
                f"`screening` skips samples far from the boundary, so it needs aggregation={near}, which never counts "
                "those. "
                f"Received: screening={screening!r}, aggregation={aggregation!r}."
            )
    if not only_successful and (gradient == "boundary" or screening is not None or search != "exact"):
        raise ValueError(
            "`only_successful=False` also counts samples that reached no boundary, so it cannot be combined with "
            "gradient='boundary', which needs a boundary point, nor with `screening` or a `search` other than 'exact', "
            "which skip samples. "
            f"Received: gradient={gradient!r}, screening={screening!r}, search={search!r}."
        )
