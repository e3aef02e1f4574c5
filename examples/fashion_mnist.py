"""Fashion-MNIST, which is not in the paper, by its protocol for MNIST.

    python examples/fashion_mnist.py --model=mlp-800 --out=runs/fashion_mnist-amm
    python examples/fashion_mnist.py --model=mlp-800 --noamm --out=runs/fashion_mnist-reference
    python examples/fashion_mnist.py --model=liunet-mnist --out=runs/fashion_mnist-liunet-mnist

The last trains a reference first and fine-tunes it with AMM. `--help` lists all settings and
their defaults; `paper/training/table_2.py` has those of Table 2. A run that was stopped continues from its last epoch.
"""

from paper.training import script

if __name__ == "__main__":
    script.run("fashion_mnist")
