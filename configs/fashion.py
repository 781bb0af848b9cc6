"""Amazon Fashion (2018), as in LLM-ESR: 9,049 users, 4,722 items, 3.8 interactions a user.

python -m launch.prepare --dataset=fashion --download
python -m launch.train --dataset=fashion
"""

OVERRIDES = {"data.max_len": 200}
