"""Amazon Beauty (2014), 5-core: 22,363 users, 12,101 items, 8.9 interactions a user. Results in `docs/results.md`.

python -m launch.prepare --dataset=beauty5 --download
python -m launch.train --dataset=beauty5 --method=none,llmesr
"""

OVERRIDES = {"data.max_len": 50}
FOR = {  # the curriculum of FAERec on beauty
    ("faerec", "sasrec"): {"faerec.period": 30.0, "faerec.w_min": 0.9},
    ("faerec", "fmlprec"): {"faerec.period": 30.0, "faerec.w_min": 0.7},
    ("faerec", "lrurec"): {"faerec.period": 15.0, "faerec.w_min": 0.9},
}
