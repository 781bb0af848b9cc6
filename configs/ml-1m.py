"""MovieLens 1M, 5-core: 6,040 users, 3,416 items, 165 interactions a user.

python -m launch.prepare --dataset=ml-1m --download
python -m launch.train --dataset=ml-1m --method=none
"""

OVERRIDES = {"data.max_len": 200}
