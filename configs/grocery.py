"""Amazon Grocery and Gourmet Food (2014), as in FAERec: 32,126 users, 39,264 items, 8.6 interactions a user.

python -m launch.prepare --dataset=grocery --download
python -m launch.train --dataset=grocery
"""

OVERRIDES = {"data.max_len": 200}
