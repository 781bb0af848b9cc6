"""The preset `best`, with one part left out or changed at a time; see `docs/best.md`.

python -m launch.sweep --sweep=best --dataset=beauty5 --seeds=42
"""

BASE = {"preset": "best", "seeds": "42,43,44"}
GRIDS = [
    {
        "variant": {
            "best": {},
            "wo-average": {"train.average": 0.0},
            "width-256": {"faerec.width": 256},
            "wo-alignment": {"faerec.item_alignment": False, "faerec.feature_alignment": False},
            "one-block": {"sasrec.blocks": 1},
            "dot": {"loss.score": "dot", "loss.temperature": 1.0},
            "temperature-0.05": {"loss.temperature": 0.05},
            "temperature-0.1": {"loss.temperature": 0.1},
            "256-negatives": {"data.num_negatives": 256},
            "popular-negatives": {"data.negatives": "popularity", "sampled_softmax.log_q": True},
            "bce": {
                "loss.ranking": "bce",
                "loss.score": "dot",
                "loss.temperature": 1.0,
                "data.negatives": "own",
                "data.num_negatives": 1,
            },
            "none": {"method": "none"},
            "llminit": {"method": "llminit"},
            "llmesr": {"method": "llmesr"},
        }
    }
]
