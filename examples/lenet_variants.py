"""LeNet's reference has a larger margin than in the paper's Table 3: which difference in the training explains it?

    python examples/lenet_variants.py --out=runs/lenet_variants

Our `lenet-mnist` has the layers of the authors' published code, whose weights are not truncated ("untruncated" here).
Each variant differs from it and its protocol in one thing that the paper's text leaves open: layers, initialisation,
weight decay, learning rate, pixels or the order of the images. All are references, trained without AMM. Every training
leaves a JSON file, and what is finished is not made again. The table that is printed has the values of each seed.
"""

from paper.variants import script
from paper.variants.lenet import LENET_VARIANTS, build_lenet

if __name__ == "__main__":
    script.run(LENET_VARIANTS, build_lenet, epochs=6, out="runs/lenet_variants")
