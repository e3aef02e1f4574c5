"""The folder of a training run: which run it holds, and whether a training with these settings may continue it."""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import filelock

from ..json_files import write_json
from ..methods import METHODS

# Settings that say where a training finds its data and devices, and do not change what comes of it.
LOCATION_SETTINGS = ("data_dir", "strategy")
# Initial weights are compared by a hash of their values, not by the name of their file.
_NOT_COMPARED = (*LOCATION_SETTINGS, "init_from")
# Settings that may change when a run is continued.
FREE = ("epochs", "eval_margins", *_NOT_COMPARED)
# Settings that older runs lack, with the values that these runs had.
LATER_SETTINGS = {
    "only_successful": True, "max_iterations": 6, "interval": 1, "groups": None, "shuffle": True, "method": None,
    "method_settings": {}, "misclassified": None, "loss": "cross-entropy", "penalty": "paper",
    "max_influence": None, "penalty_config": None,
}  # fmt: skip


class OtherRunError(ValueError):
    """The folder of a run holds another one."""


class InUseError(RuntimeError):
    """Another process trains in the folder of a run."""


@contextlib.contextmanager
def alone(out: pathlib.Path) -> Iterator[None]:
    """Make the folder of a run, and keep other processes out of it while the context lasts.

    Args:
        out: path of the folder.

    Raises:
        InUseError: another process trains in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        # The operating system releases the lock when the process ends, even if it is killed.
        with filelock.FileLock(out / "training.lock", timeout=0):
            yield
    except filelock.Timeout:
        raise InUseError(
            f"Another process trains in {out}: wait for its end, stop it, or choose another --out."
        ) from None


def finished(settings: dict[str, Any], out: pathlib.Path) -> dict[str, Any] | None:
    """The result of the run in a folder, if it is finished and has these settings.

    Args:
        settings: from `settings.resolve`; where data and initial weights are does not matter.
        out: path of the run's folder.

    Returns:
        The content of `result.json`, or None.
    """
    path = out / "result.json"
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    before = {**LATER_SETTINGS, **result["config"]}
    same = all(before.get(name) == value for name, value in settings.items() if name not in _NOT_COMPARED)
    return result if same else None


def refuse_other_settings(out: pathlib.Path, settings: dict[str, Any], free: Sequence[str] = FREE) -> None:
    """Raise an error if the folder holds a run with other settings, as far as they are known yet.

    Args:
        out: path of the folder.
        settings: from `settings.resolve`; with `initial_weights`, a hash of them, once they are loaded.
        free: settings that may differ.

    Raises:
        OtherRunError: the folder holds another run.
    """
    before = _settings(out)
    if settings["method"] and METHODS[settings["method"]].depends_on_epochs:
        free = [name for name in free if name != "epochs"]
    different = [n for n in settings if before and settings[n] != before.get(n) and n not in free]
    if "initial_weights" in different:
        different.append("init_from")
    if different:
        differences = (f"{name}={before.get(name)!r} there and {settings[name]!r} here" for name in different)
        raise OtherRunError(f"{out} holds a run with other settings: {', '.join(differences)}.")


def prepare(out: pathlib.Path, settings: dict[str, Any], resume: bool) -> None:
    """Make the folder ready for a run: raise an error if it holds another one, or remove what it holds.

    Args:
        out: path of the folder.
        settings: from `settings.resolve`, with `initial_weights`.
        resume: bool, whether to continue the run in the folder; otherwise its files are removed.

    Raises:
        OtherRunError: the folder holds another run.
    """
    if resume:
        refuse_other_settings(out, settings)
    else:
        for name in ("checkpoint", "tensorboard"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in ("history.csv", "config.json", "initial.json", "model.keras", "result.json"):
            (out / name).unlink(missing_ok=True)
    before = _settings(out)
    if before and before["eval_margins"] != settings["eval_margins"]:
        # Before and after fine-tuning margins are measured on the same images.
        (out / "initial.json").unlink(missing_ok=True)


def once(path: pathlib.Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The content of a file, computed if there is no file: so a run that is resumed keeps what it began with.

    Args:
        path: path of a JSON file.
        compute: function that returns its content.

    Returns:
        The content.
    """
    if not path.exists():
        write_json(path, compute())
    return json.loads(path.read_text())


def training_images(source: str | None) -> int | None:
    """The images that weights were trained on, which only the folder of a run says.

    Args:
        source: the setting `init_from`; None for new weights.

    Returns:
        int, 0 for new weights; None where nothing says it.
    """
    if source is None:
        return 0
    path = pathlib.Path(source)
    result = (path if path.is_dir() else path.parent) / "result.json"
    return json.loads(result.read_text())["training_images"] if result.exists() else None


def _settings(out: pathlib.Path) -> dict[str, Any]:
    path = out / "config.json"
    return {**LATER_SETTINGS, **json.loads(path.read_text())} if path.exists() else {}
