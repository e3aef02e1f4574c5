"""The paper's SVHN experiments (Section 4.4.4).

    python examples/svhn.py --model=lenet --out=runs/svhn-amm
    python examples/svhn.py --model=lenet --noamm --out=runs/svhn-reference
    python examples/svhn.py --model=resnet-20 --out=runs/svhn-resnet-20

The last trains a reference first and fine-tunes it with AMM. `--help` lists all settings and
their defaults; `paper/training/table_2.py` has those of Table 2. A run that was stopped continues from its last epoch.
"""

from paper.training import script

if __name__ == "__main__":
    script.run("svhn_cropped")
