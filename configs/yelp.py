"""Yelp, as in LLM-ESR and FAERec: 15,720 users, 11,383 items, 12.2 interactions a user.

python -m launch.prepare --dataset=yelp --raw_dir=path/to/yelp
python -m launch.train --dataset=yelp
"""

OVERRIDES = {"data.max_len": 200}
