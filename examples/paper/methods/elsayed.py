"""The large margin loss of Elsayed et al. (2018), as the paper re-implements it (Section 4.3.1)."""

import dataclasses

import keras

import keras_amm

from .method import Method


@dataclasses.dataclass(frozen=True)
class ElsayedLargeMargin(Method):
    """`max(0, c - d)` of every image, d its distance to the linearised network's boundary, negative if misclassified.

    `d = |f_i - f_j| / |grad f_i - grad f_j|`, the gradients held constant: DeepFool with one step, whether it succeeds
    or not, and `gradient="masked"`. Of a correct image j is the label and i the class with the smallest d; of a
    misclassified one, i is the predicted class.

    Reference: Elsayed et al., "Large margin deep networks for classification" (NeurIPS 2018), Equations 6 and 7 at the
    input layer, for l2, with the maximum over the classes. It differs in two ways: d is longer by DeepFool's overshoot
    of 2%, and the maximum of Equation 7 may take another class than the predicted one for a misclassified image.
    Weight and threshold were chosen by our search (`docs/results/mnist_discussion.md`).

    Attributes:
        strength: the weight of the loss beside the cross-entropy.
        threshold: c, the distance that is wanted, in the unit of the pixels.
    """

    strength: float = 300.0
    threshold: float = 0.25

    @property
    def regularizer(self) -> keras_amm.MarginRegularizer:
        """The penalty."""
        return keras_amm.MarginRegularizer.from_paper(
            "avg-exp",
            shrinkage="hinge",
            strength=self.strength,
            c=self.threshold,
            d=1.0,
            gradient="masked",
            only_successful=False,
        )

    def wrap(self, network: keras.Model) -> keras.Model:
        """The model that trains with the penalty."""
        return keras_amm.wrap(network, regularizer=self.regularizer, attack=keras_amm.DeepFool(1))
