"""The built-in synthetic catalogue: 2,000 users and 940 items, no file needed.

python -m launch.train --dataset=demo --method=none,llmesr
"""

OVERRIDES = {"data.max_len": 50, "train.epochs": 60, "train.patience": 20}
