"""DeepFool: the nearest decision boundary, by iterated linearisation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_amm.arguments import require_real, require_whole
from keras_amm.execution.checks import Check, as_value_errors, enforce
from keras_amm.execution.compiled import CompiledPerModel
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import unwrapped
from keras_amm.network.pixel_units import as_deviation
from keras_amm.network.structures import only_entry
from keras_amm.search.geometry import expand_to, squared_norm
from keras_amm.search.linearisation import CleanPass, clean_pass
from keras_amm.search.loop import search
from keras_amm.search.path import Path
from keras_amm.typing import Tensor, TensorLike


class Perturbation(NamedTuple):
    """What `DeepFool.perturb` finds for a batch of B images.

    Attributes:
        delta: float32 tensor [B, ...], in the units of the images: `x + delta` is for the model.
        norm: float32 tensor [B], its l2 norm, the sample's margin. With a `deviation`, that of
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


@keras.saving.register_keras_serializable(package="keras_amm")
class DeepFool:
    """The DeepFool attack in the l2 norm, batched.

    Each step linearises the network and goes to the nearest boundary,
    `r = (1 + overshoot) * |f_k - f_p| / ||w|| * w / ||w||` with
    `w = grad f_k - grad f_p`, until the prediction changes. After the first
    step, classes whose boundary was far away are not linearised again, except
    under XLA.

    Args:
        max_iterations: int, steps after which a sample is given up.
        num_candidates: int >= 2, the number of classes considered in each
            step, those of the largest logits at the image (all, if there are fewer).
        overshoot: float >= 0, by what fraction each step goes beyond the
            linearised boundary.
        refine_steps: int, bisection steps along the perturbation after
            success, for measuring; training does not refine.
        from_logits: whether the model's output is logits (True) or a softmax
            (False); None finds out, and refuses when in doubt.
        deviation: by what the images of the model were divided, as in `(pixels - mean) / deviation`: float, or a
            sequence of one per channel, the last axis. Then distances are searched and measured in the units of the
            pixels. None for the units of the images.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> found = keras_amm.DeepFool().perturb(model, np.random.rand(5, 2))
    >>> found.norm.shape
    TensorShape([5])

    Reference: Moosavi-Dezfooli et al. (2016); Equations 2-4 of the paper.
    """

    def __init__(
        self,
        max_iterations: int = 6,
        num_candidates: int = 10,
        overshoot: float = 0.02,
        refine_steps: int = 0,
        from_logits: bool | None = None,
        deviation: float | Sequence[float] | None = None,
    ) -> None:
        for name, value, least in (
            ("max_iterations", max_iterations, 1),
            ("num_candidates", num_candidates, 2),
            ("refine_steps", refine_steps, 0),
        ):
            require_whole(name, value, least)
        require_real("overshoot", overshoot, lambda v: v >= 0, "at least 0")
        if from_logits not in (None, True, False):
            raise ValueError(f"`from_logits` must be True, False or None. Received: from_logits={from_logits!r}.")
        self.max_iterations = int(max_iterations)
        self.num_candidates = int(num_candidates)
        self.overshoot = overshoot
        self.refine_steps = int(refine_steps)
        self.from_logits = from_logits
        self.deviation = as_deviation(deviation)
        self._compiled = CompiledPerModel()

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
            TypeError: the model is not a Keras model.
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
        if not tf.executing_eagerly() or tf.config.functions_run_eagerly():
            return self.perturb_from(classifier, clean_pass(classifier, x), labels)
        labels = labels if labels is None else tf.convert_to_tensor(only_entry(labels))
        if labels is not None and labels.shape.rank and labels.shape[0] != x.shape[0]:
            raise ValueError(f"Images and labels must be equally many. Received: {x.shape[0]} and {labels.shape[0]}.")
        batch = [x] if labels is None else [x, labels]
        setting = repr(self.get_config())
        with as_value_errors():
            return self._compiled.get(model, setting, self._search_model, batch)(*batch)

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
        return Classifier(model, self.from_logits, self.deviation)

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
        path = self.path(classifier, clean, labels, keep_path=False)
        with tf.control_dependencies(enforce(path.checks + checks)):
            delta = tf.identity(path.delta)
        if self.refine_steps:
            delta = self._refine(classifier, path, delta, labels)
        norm = tf.sqrt(squared_norm(delta))
        return Perturbation(classifier.for_model(delta), norm, path.target, path.iterations, path.success)

    def path(
        self,
        classifier: Classifier,
        clean: CleanPass,
        labels: Tensor | None,
        *,
        screening: float | None = None,
        keep_path: bool = True,
    ) -> Path:
        """Search with the settings of this attack; see `keras_amm.search.loop.search`.

        Args:
            classifier: the network.
            clean: its pass over the images.
            labels: int32 tensor [B], or None.
            screening: how many correct samples to search, as a fraction of the batch, or None for all.
            keep_path: bool, whether to record the steps.

        Returns:
            The recorded `Path`.

        Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> classifier = keras_amm.network.classifier.Classifier(model)
        >>> clean = keras_amm.search.linearisation.clean_pass(classifier, tf.ones((1, 2)))
        >>> path = keras_amm.DeepFool().path(classifier, clean, None)
        >>> path.success.shape
        TensorShape([1])
        """
        return search(
            classifier,
            clean,
            labels,
            max_iterations=self.max_iterations,
            num_candidates=self.num_candidates,
            overshoot=self.overshoot,
            screening=screening,
            keep_path=keep_path,
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.get_config()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(type(self)(**state)))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation.

        Returns:
            A dictionary.

        Example:
        >>> keras_amm.DeepFool(overshoot=0.1).get_config()["overshoot"]
        0.1
        """
        return {
            "max_iterations": self.max_iterations,
            "num_candidates": self.num_candidates,
            "overshoot": self.overshoot,
            "refine_steps": self.refine_steps,
            "from_logits": self.from_logits,
            "deviation": self.deviation,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DeepFool":
        """The attack of a configuration.

        Args:
            config: what `get_config` returned.

        Returns:
            A `DeepFool`.

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
