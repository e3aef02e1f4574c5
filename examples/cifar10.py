"""The paper's CIFAR-10 experiments (Section 4.4.2).

    python examples/cifar10.py --model=lenet --out=runs/cifar10-amm
    python examples/cifar10.py --model=lenet --noamm --out=runs/cifar10-reference
    python examples/cifar10.py --model=resnet-20 --out=runs/cifar10-resnet-20

The last trains a reference first and fine-tunes it with AMM. `--help` lists all settings and
their defaults; `paper/training/table_2.py` has those of Table 2. A run that was stopped continues from its last epoch.
"""

from paper.training import script

if __name__ == "__main__":
    script.run("cifar10")
