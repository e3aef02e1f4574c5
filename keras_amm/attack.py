"""What all attacks have in common: how they are called, and what they return."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import keras
import tensorflow as tf

from keras_amm.arguments import require_whole
from keras_amm.execution.checks import Check, as_value_errors, enforce
from keras_amm.execution.compiled import CompiledPerModel
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import unwrapped
from keras_amm.network.pixel_units import as_deviation
from keras_amm.network.structures import only_entry
from keras_amm.search.box import require_bounds
from keras_amm.search.geometry import expand_to
from keras_amm.search.linearisation import CleanPass, clean_pass
from keras_amm.search.norms import norm_for, require_norm
from keras_amm.search.path import Path
from keras_amm.typing import Tensor, TensorLike

_AttackT = TypeVar("_AttackT", bound="Attack")

# What an attack takes over from another one, so that both measure alike.
SHARED = ("from_logits", "deviation", "bounds", "norm")
# A number for all pixels, or one for each channel.
Bound = float | Sequence[float]


class Perturbation(NamedTuple):
    """What an attack's `perturb` finds for a batch of B images.

    Attributes:
        delta: float32 tensor [B, ...], in the units of the images: `x + delta` is for the model.
        norm: float32 tensor [B], its norm by the attack's `norm`, the sample's margin. With a `deviation`, that of
            `deviation * delta`, in pixel units.
        target: int32 tensor [B], the class that the last step aimed at.
        iterations: int32 tensor [B], the number of steps taken.
        success: boolean tensor [B], whether the prediction changed (towards
            the label for a misclassified sample, if labels were given), or the
            boundary was reached exactly: an image whose two largest logits are
            equal is at one already, at distance 0 and after 0 steps. Where the
            attack failed, `norm` is how far it went.
    """

    delta: Tensor
    norm: Tensor
    target: Tensor
    iterations: Tensor
    success: Tensor


class Attack(abc.ABC):
    """A search for the nearest point of another class: what `DeepFool` and the others have in common.

    A subclass says in `path` how it searches, and in `get_config` what its
    arguments are. It is saved with a model if it is registered with Keras.

    Args:
        refine_steps: int, bisection steps along the perturbation after success.
        from_logits: True for logits, False for probabilities; None finds out.
        deviation: by what the images were divided, if distances are to be
            those of the pixels; or None.
        bounds: the smallest and the largest value of a pixel, in the units of
            the images given; or None.
        norm: `"l2"` or `"linf"`, by which points are near.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> isinstance(keras_amm.DeepFool(), keras_amm.Attack)
    True
    """

    def __init__(
        self,
        *,
        refine_steps: int = 0,
        from_logits: bool | None = None,
        deviation: float | Sequence[float] | None = None,
        bounds: tuple[Bound, Bound] | None = None,
        norm: str = "l2",
    ) -> None:
        require_whole("refine_steps", refine_steps, 0)
        if from_logits not in (None, True, False):
            raise ValueError(f"`from_logits` must be True, False or None. Received: from_logits={from_logits!r}.")
        require_norm(norm)
        self.refine_steps = int(refine_steps)
        self.from_logits = from_logits
        self.deviation = as_deviation(deviation)
        self.bounds = require_bounds(bounds)
        self.norm = norm
        self._compiled = CompiledPerModel()

    @abc.abstractmethod
    def path(self, classifier: Classifier, clean: CleanPass, labels: Tensor | None) -> Path:
        """The search itself, before any bisection.

        Args:
            classifier: the network.
            clean: its pass over the images.
            labels: int32 tensor [B], towards which misclassified samples are
                attacked; or None.

        Returns:
            The `Path`, whose `source` and `target` are the classes on either
            side of the boundary that was found.

        Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> classifier = keras_amm.network.classifier.Classifier(model)
        >>> clean = keras_amm.search.linearisation.clean_pass(classifier, tf.ones((1, 2)))
        >>> keras_amm.DeepFool().path(classifier, clean, None).success.shape
        TensorShape([1])
        """

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation; those that all attacks have, for a subclass to add its own.

        Returns:
            A dictionary.

        Example:
        >>> keras_amm.DeepFool(overshoot=0.1).get_config()["overshoot"]
        0.1
        """
        return {name: getattr(self, name) for name in ("refine_steps", *SHARED)}

    def perturb(self, model: keras.Model, x: TensorLike, labels: TensorLike | None = None) -> Perturbation:
        """Find the perturbation that takes each image to its nearest decision boundary.

        Outside a `tf.function` the search is compiled once per model and setting.

        Args:
            model: single-input `keras.Model`, or an `AMMModel`, built.
            x: images [B, ...], any numeric dtype; the search is in float32.
            labels: None for an untargeted attack on every image. With labels
                (indices [B] or probabilities [B, C]) a misclassified image
                goes towards its label instead.

        Returns:
            A `Perturbation`.

        Raises:
            TypeError: the model is not a Keras model, or the images are no numbers.
            ValueError: model, images or labels are not fit for it.

        Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> found = keras_amm.DeepFool().perturb(model, np.ones((1, 2)), labels=np.array([2]))
        >>> found.delta.shape
        TensorShape([1, 2])
        """
        model = unwrapped(model)
        classifier = self.classifier(model)
        x = classifier.inputs(x)
        if x.shape[0] == 0:
            raise ValueError(f"There are no images to perturb. Expected: one or more. Received: x of shape {x.shape}.")
        if not tf.executing_eagerly() or tf.config.functions_run_eagerly():
            return self.perturb_from(classifier, clean_pass(classifier, x), labels)
        labels = labels if labels is None else tf.convert_to_tensor(only_entry(labels))
        if labels is not None and labels.shape.rank and labels.shape[0] != x.shape[0]:
            raise ValueError(f"Images and labels must be equally many. Received: {x.shape[0]} and {labels.shape[0]}.")
        batch = [x] if labels is None else [x, labels]
        with as_value_errors():
            return self._compiled.get(model, self.setting, self._search_model, batch)(*batch)

    def classifier(self, model: keras.Model) -> Classifier:
        """The network as this attack sees it: its logits, as a function of images in the units of the distances.

        Args:
            model: single-input `keras.Model`, or an `AMMModel`, built.

        Returns:
            The view of the model, whose `inputs` takes images of the model.

        Raises:
            TypeError: it is not a Keras model.
            ValueError: it is not fit for the attack.

        Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> keras_amm.DeepFool(deviation=0.5).classifier(model).inputs([[1.0, 3.0]]).numpy()
        array([[0.5, 1.5]], dtype=float32)
        """
        return Classifier(model, self.from_logits, self.deviation, self.norm)

    def perturb_from(self, classifier: Classifier, clean: CleanPass, labels: TensorLike | None = None) -> Perturbation:
        """`perturb`, going out from a pass over the images that has been made already.

        Args:
            classifier: the network, as `classifier` gives it.
            clean: its pass over the images.
            labels: None, or indices [B] or probabilities [B, C], as for `perturb`.

        Returns:
            A `Perturbation`.

        Raises:
            ValueError: images or labels are not fit for the network.

        Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> classifier = keras_amm.network.classifier.Classifier(model)
        >>> clean = keras_amm.search.linearisation.clean_pass(classifier, tf.ones((1, 2)))
        >>> keras_amm.DeepFool().perturb_from(classifier, clean).norm.shape
        TensorShape([1])
        """
        checks: list[Check] = []
        if labels is not None:
            labels, checks = clean.class_indices(labels)
        path = self.path(classifier, clean, labels)
        with tf.control_dependencies(enforce(path.checks + checks)):
            delta = tf.identity(path.delta)
        if self.refine_steps:
            delta = self._refine(classifier, path, delta, labels)
        norm = norm_for(classifier).of(delta)
        return Perturbation(classifier.for_model(delta), norm, path.target, path.iterations, path.success)

    def for_labels(self: _AttackT) -> _AttackT:
        """This attack for images that all go towards their labels, without what only other images need.

        Returns:
            The attack itself, or another one that finds the same at less cost.

        Example:
        >>> keras_amm.DeepFool(overshoot=0.1).for_labels().num_candidates
        2
        """
        return self

    @property
    def setting(self) -> tuple[type, str]:
        """All that a search with this attack depends on, to tell compiled functions apart."""
        return type(self), repr(self.get_config())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={getattr(self, k)!r}' for k in self.get_config())})"

    def __getstate__(self) -> dict[str, Any]:
        return self.get_config()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(type(self).from_config(state)))

    @classmethod
    def from_config(cls: type[_AttackT], config: dict[str, Any]) -> _AttackT:
        """The attack of a configuration.

        Args:
            config: what `get_config` returned.

        Returns:
            An attack of this class.

        Example:
        >>> keras_amm.DeepFool.from_config({"overshoot": 0.1}).overshoot
        0.1
        """
        return cls(**config)

    def _search_model(self, model: keras.Model, x: Tensor, labels: Tensor | None = None) -> Perturbation:
        classifier = self.classifier(model)
        return self.perturb_from(classifier, clean_pass(classifier, x), labels)

    def _refine(self, classifier: Classifier, path: Path, delta: Tensor, labels: Tensor | None) -> Tensor:
        """Bisect for the first change of the prediction along a successful perturbation."""
        goal = path.prediction if labels is None else tf.where(path.correct, path.prediction, labels)

        def halve(i: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
            middle = 0.5 * (low + high)
            predicted = tf.argmax(classifier(path.x + expand_to(middle, delta) * delta), axis=1, output_type=tf.int32)
            crossed = tf.where(path.correct, predicted != goal, predicted == goal)
            return i + 1, tf.where(crossed, low, middle), tf.where(crossed, middle, high)

        one = tf.ones_like(path.norm)
        _, _, high = tf.while_loop(lambda i, low, high: i < self.refine_steps, halve, (0, tf.zeros_like(one), one))
        return expand_to(tf.where(path.success, high, one), delta) * delta


def changed(attack: _AttackT, **settings: Any) -> _AttackT:
    """A copy of an attack with other settings."""
    return type(attack).from_config({**attack.get_config(), **settings})


def require_attack(attack: Any, hint: str = "") -> None:
    """Refuse, by a TypeError that ends in `hint`, what is neither an attack nor None."""
    if attack is not None and not isinstance(attack, Attack):
        raise TypeError(
            "`attack` must be a keras_amm.DeepFool, another keras_amm.Attack, or None. "
            f"Received: attack of type {type(attack).__name__}.{hint}"
        )
