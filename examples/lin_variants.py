"""AVG+LIN and MIN+LIN err more than in the paper's Table 1: which difference in the training explains it?

    python examples/lin_variants.py --out=runs/lin_variants

Each variant differs from the row of Table 1 and the protocol in one thing that the paper leaves open, or that its
published code does otherwise: initialisation, weight decay, learning rate, pixels, order of the images, clipping, steps
of DeepFool, what the penalty is divided by, or c. EXP, whose errors are near the paper's as it is, shows what another
divisor does there. Every training leaves a JSON file, and what is finished is not made again.
`--variants=avg-lin,min-lin.ours` trains only the variants of AVG+LIN, and MIN+LIN as we have it.
"""

from paper.variants import script
from paper.variants.lin import LIN_VARIANTS, build_mlp

if __name__ == "__main__":
    script.run(LIN_VARIANTS, build_mlp, epochs=10, out="runs/lin_variants")
