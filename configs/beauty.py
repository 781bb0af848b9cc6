"""Amazon Beauty (2014), as in LLM-ESR and FAERec: 52,204 users, 57,289 items, 7.6 interactions a user.

python -m launch.prepare --dataset=beauty --download
python -m launch.train --dataset=beauty
"""

OVERRIDES = {"data.max_len": 200}
