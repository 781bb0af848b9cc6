"""Yelp, as in LLM-ESR and FAERec: 15,720 users, 11,383 items, 12.2 interactions a user.

python -m launch.train --dataset=yelp --data_dir=data/yelp
"""

OVERRIDES = {"data.max_len": 200}
