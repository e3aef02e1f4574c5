"""The paper's CIFAR-100 experiments (Section 4.4.3).

    python examples/cifar100.py --model=lenet --out=runs/cifar100-amm
    python examples/cifar100.py --model=lenet --noamm --out=runs/cifar100-reference
    python examples/cifar100.py --model=resnet-20 --out=runs/cifar100-resnet-20

The last trains a reference first and fine-tunes it with AMM. `--help` lists all settings and
their defaults; `paper/training/table_2.py` has those of Table 2. A run that was stopped continues from its last epoch.
"""

from paper.training import script

if __name__ == "__main__":
    script.run("cifar100")
