"""The settings of a training: its flags, and Table 2 of the paper where they are not given."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from absl import flags

import keras_amm

from .. import methods
from ..command_line import numbers, show_in_help
from .initial_weights import PUBLISHED
from .losses import LOSSES
from .table_2 import TABLE_2

STRATEGIES = ("none", "mirrored")
PENALTIES = ("paper", "default")
# The flags of the paper's penalty, which the default of the library does not take, and their defaults.
_OF_PAPER: Mapping[str, Any] = MappingProxyType(
    {
        "strength": 32.0, "aggregation": "min", "shrinkage": "exp", "c": 2.0, "d": 1.0, "gradient": "unrolled",
        "screening": None, "misclassified": None, "only_successful": True, "interval": 1,
    }
)  # fmt: skip


def define_flags(networks: Sequence[str], out: str, without: Sequence[str] = ()) -> None:
    """Define the flags of a training.

    Args:
        networks: sequence of str, the networks there are, the default first.
        out: str, the default of `--out`.
        without: sequence of str, names of flags to leave out.
    """
    flags.DEFINE_enum("model", networks[0], networks, "the network")
    flags.DEFINE_integer(
        "groups",
        None,
        "for LiuNet: groups of a normalisation, 16 in the authors' code; by default as many as have 32 channels each",
        lower_bound=1,
    )
    flags.DEFINE_bool("amm", True, "whether to train for margin")
    flags.DEFINE_enum(
        "method", None, list(methods.METHODS), "one of the methods that the paper compares with, in place of AMM"
    )
    flags.DEFINE_list("method_settings", [], "hyperparameters of the method that are not its defaults, as rate=0.2")
    flags.DEFINE_string(
        "init_from",
        None,
        "start from these weights: the folder of a run, a file .keras or .weights.h5, or `imagenet` for published ones "
        "(resnet-18, resnet-50), the default where AMM fine-tunes on ImageNet",
    )
    flags.DEFINE_bool(
        "two_step", None, "with --amm: train a reference first, then fine-tune it; by default where Table 2 does"
    )
    flags.DEFINE_bool(
        "freeze_batch_normalization", None, "keep statistics, scale and offset as they are; by default when fine-tuning"
    )
    flags.DEFINE_integer("epochs", None, "number of epochs (default: Table 2)", lower_bound=0)
    flags.DEFINE_integer("batch_size", None, "images per batch (default: Table 2)", lower_bound=1)
    flags.DEFINE_float("learning_rate", None, "initial learning rate (default: Table 2)", lower_bound=0.0)
    flags.DEFINE_list("drop_at", None, "epochs from which the learning rate is lower (default: Table 2)")
    flags.DEFINE_list("drop_to", None, "factors of the initial learning rate from then on (default: 0.1,0.01)")
    flags.DEFINE_integer("seed", 0, "seed of initialisation, order and augmentation")
    flags.DEFINE_enum("loss", "cross-entropy", list(LOSSES), "the classification loss")
    flags.DEFINE_enum(
        "penalty",
        "paper",
        PENALTIES,
        "paper: MIN+EXP, with the settings below; default: that of keras_amm.wrap, which takes only --max_influence",
    )
    flags.DEFINE_float(
        "max_influence", None, "bound of the pull on each image; by default none for the paper's, 4 for the default's"
    )
    flags.DEFINE_float("strength", _OF_PAPER["strength"], "lambda, the weight of the margin penalty")
    flags.DEFINE_enum(
        "aggregation", _OF_PAPER["aggregation"], _names(keras_amm.aggregation.ENTRIES), "which samples count"
    )
    flags.DEFINE_enum(
        "shrinkage", _OF_PAPER["shrinkage"], _names(keras_amm.shrinkage.ENTRIES), "how much small margins count"
    )
    flags.DEFINE_float("c", _OF_PAPER["c"], "scale of correctly classified samples")
    flags.DEFINE_float("d", _OF_PAPER["d"], "scale of misclassified samples")
    flags.DEFINE_enum(
        "gradient", _OF_PAPER["gradient"], ["unrolled", "masked", "boundary"], "how margins are differentiated"
    )
    flags.DEFINE_float(
        "screening", None, "so many correct samples, as a fraction of the batch, are searched in full; all by default"
    )
    flags.DEFINE_enum(
        "misclassified",
        None,
        ["all", "farthest", "none"],
        "which misclassified samples count; by default as in the authors' code: all under AVG, the farthest under MIN",
    )
    flags.DEFINE_bool(
        "only_successful", _OF_PAPER["only_successful"], "whether samples count for nothing whose attack failed"
    )
    flags.DEFINE_integer(
        "interval", _OF_PAPER["interval"], "training steps from one margin penalty to the next", lower_bound=1
    )
    flags.DEFINE_integer("num_candidates", 10, "classes that DeepFool considers", lower_bound=2)
    flags.DEFINE_integer("max_iterations", 6, "steps of DeepFool", lower_bound=1)
    flags.DEFINE_bool("validation", False, "hold out 5,000 training images and report on them instead of the test set")
    flags.DEFINE_integer("num_train", 0, "train on so many random images only; 0 for all", lower_bound=0)
    flags.DEFINE_integer("num_random_labels", 0, "give so many training images a random label", lower_bound=0)
    flags.DEFINE_bool("augment", True, "whether training images are cropped and mirrored at random")
    flags.DEFINE_bool("shuffle", True, "whether each epoch has another order; without, the batches are always the same")
    flags.DEFINE_integer("eval_margins", 0, "images whose margin is measured at the end; 0 for all", lower_bound=0)
    flags.DEFINE_integer(
        "log_margins",
        1000,
        "images whose margin is measured after each epoch, for logs and TensorBoard; 0 for none",
        lower_bound=0,
    )
    flags.DEFINE_enum("strategy", "none", STRATEGIES, "mirrored: train on all GPUs, which share each batch")
    flags.DEFINE_string("data_dir", None, "where data sets are prepared (default: TFDS_DATA_DIR)")
    flags.DEFINE_bool("resume", True, "continue from the checkpoint in --out, if there is one")
    flags.DEFINE_string("out", out, "folder of checkpoint, logs, model and result")
    for name in without:
        delattr(flags.FLAGS, name)
    show_in_help(__name__)


def _method(given: dict[str, Any]) -> dict[str, Any]:
    """The method with all its hyperparameters; it takes the place of AMM."""
    name, changes = given.get("method"), given.get("method_settings") or ()
    if name is None:
        if changes:
            raise ValueError(f"--method_settings goes with --method. Received: {','.join(changes)}.")
        return {"method": None, "method_settings": {}}
    if given["two_step"]:
        raise ValueError(f"--two_step trains a reference for AMM. Received: method={name!r}.")
    if given["loss"] != "cross-entropy":
        raise ValueError(f"A method has its own loss. Received: method={name!r}, loss={given['loss']!r}.")
    if given.get("strategy") == "mirrored":
        raise ValueError(f"Methods train on one device. Received: method={name!r}, strategy='mirrored'.")
    return {"method": name, "method_settings": dataclasses.asdict(methods.build(name, changes)), "amm": False}


def _penalty_config(settings: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of the library's default penalty, which may change from version to version; None for the paper's.

    Raises:
        ValueError: there are settings of the paper's penalty besides.
    """
    if settings["penalty"] != "default":
        return None
    if changed := [f"{name}={settings[name]}" for name, usual in _OF_PAPER.items() if settings[name] != usual]:
        raise ValueError(f"--penalty=default takes --max_influence alone. Received: {', '.join(changed)}.")
    config = default_penalty(settings["max_influence"]).get_config()
    return {name: value for name, value in config.items() if name not in ("name", "trainable", "dtype")}


def default_penalty(max_influence: float | None) -> keras_amm.MarginRegularizer:
    """The penalty of `keras_amm.wrap`, with another bound of the pull if one is given."""
    return keras_amm.MarginRegularizer(**({} if max_influence is None else {"max_influence": max_influence}))


def _names(entries: Sequence[Any]) -> list[str]:
    """The names of the library's aggregations or shrinkages."""
    return [entry.identifier for entry in entries]


def given_flags() -> dict[str, Any]:
    """The values of the flags that `define_flags` defined, by name, for `resolve`."""
    return {flag.name: flag.value for flag in flags.FLAGS.get_flags_for_module(__name__)}


def resolve(data_set: str, given: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run: what was given, and Table 2 where nothing was.

    Args:
        data_set: str.
        given: the flags' values by name; None where not given. `strategy` may be missing.

    Returns:
        A dictionary that JSON can hold.

    Raises:
        ValueError: settings contradict each other.
    """
    settings = {name: value for name, value in given.items() if name not in ("out", "resume")}
    settings |= _method(settings)
    row = TABLE_2[data_set][settings["model"]]
    for name in ("epochs", "batch_size", "learning_rate", "drop_at"):
        if settings[name] is None:
            settings[name] = getattr(row, name)
    settings["drop_at"] = numbers("drop_at", settings["drop_at"], int)
    if settings["drop_to"] is None:
        settings["drop_to"] = row.drop_to[: len(settings["drop_at"])]
    settings["drop_to"] = numbers("drop_to", settings["drop_to"], float)
    if len(settings["drop_at"]) != len(settings["drop_to"]):
        raise ValueError(
            "--drop_to must have a factor for each epoch of --drop_at. "
            f"Received: drop_at={settings['drop_at']}, drop_to={settings['drop_to']}."
        )
    if any(later <= sooner for sooner, later in itertools.pairwise([0, *settings["drop_at"]])):
        raise ValueError(f"--drop_at must have rising epochs, from 1 on. Received: drop_at={settings['drop_at']}.")
    if settings["groups"] and not settings["model"].startswith("liunet"):
        raise ValueError(f"--groups is for LiuNet. Received: model={settings['model']!r}.")
    if settings["two_step"] and (settings["init_from"] or not settings["amm"]):
        raise ValueError("--two_step trains its own reference for AMM: it goes neither with --init_from nor --noamm.")
    is_fine_tuned = settings["amm"] and not row.scratch
    if data_set == "imagenet2012" and is_fine_tuned and not settings["init_from"] and settings["two_step"] is None:
        # The few epochs of Table 2 only fine-tune: they are too few to train a reference.
        if settings["model"] not in PUBLISHED:
            raise ValueError(
                f"There are no published weights of {settings['model']} to fine-tune: name a file with --init_from, or "
                "train a reference first with --two_step and more epochs."
            )
        settings["init_from"] = "imagenet"
    if settings["two_step"] is None:
        settings["two_step"] = is_fine_tuned and not settings["init_from"]
    if settings["freeze_batch_normalization"] is None:
        settings["freeze_batch_normalization"] = bool(settings["init_from"] or settings["two_step"])
    return {"data_set": data_set, "strategy": "none", **settings, "penalty_config": _penalty_config(settings)}
