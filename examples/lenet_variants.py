"""LeNet's reference has a larger margin than in the paper's Table 3: which difference between the trainings explains it?

    python examples/lenet_variants.py --out=runs/lenet_variants

The paper names LeNet and its protocol, but its published code has no LeNet for MNIST. Each variant differs from our
`lenet-mnist` and its protocol in one thing that the paper leaves open: layers, initialisation, weight decay, learning
rate, pixels or the order of the images. All are references, trained without AMM. Every training leaves a JSON file, and
what is finished is not made again. The table that is printed has the values of each seed.
"""

import functools

from absl import app

from paper.variants import forms, lenet

if __name__ == "__main__":
    forms.define_flags(lenet.FORMS, epochs=6, out="runs/lenet_variants")
    app.run(functools.partial(forms.main, lenet.FORMS, functools.partial(forms.fit, build=lenet.build)))
