"""AVG+LIN and MIN+LIN err more than in the paper's Table 1: which difference between the trainings explains it?

    python examples/lin_variants.py --out=runs/lin_variants

Each variant differs from the row of Table 1 and the protocol in one thing that the paper leaves open, or that its
published code does otherwise: initialisation, weight decay, learning rate, pixels, order of the images, clipping, steps
of DeepFool, what the penalty is divided by, or c. EXP, whose errors are near the paper's as it is, shows what another
divisor does there. Every training leaves a JSON file, and what is finished is not made again.
`--forms=avg-lin,min-lin.ours` trains only the variants of AVG+LIN, and MIN+LIN as we have it.
"""

import functools

from absl import app

from paper.variants import forms, lin

if __name__ == "__main__":
    forms.define_flags(lin.FORMS, epochs=10, out="runs/lin_variants")
    app.run(functools.partial(forms.main, lin.FORMS, functools.partial(forms.fit, build=lin.build)))
