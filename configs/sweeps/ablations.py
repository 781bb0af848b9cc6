"""LLM-ESR's tables 2, 4 and 5: LLM-ESR without each of its parts; three seeds.

python -m launch.sweep --sweep=ablations --dataset=yelp
python -m launch.sweep --sweep=ablations --dataset=yelp --backbone=bert4rec --workdir=runs/yelp/ablations-bert4rec
python -m launch.sweep --sweep=ablations --dataset=yelp --backbone=gru4rec --workdir=runs/yelp/ablations-gru4rec
"""

BASE = {"method": "llmesr", "seeds": "42,43,44"}
GRIDS = [
    {
        "variant": {
            "llmesr": {},
            "wo-co-view": {"llmesr.views": "semantic"},
            "wo-se-view": {"llmesr.views": "collaborative"},
            "wo-SD": {"llmesr.alpha": 0.0},
            "wo-share": {"llmesr.share": False},
            "wo-CA": {"llmesr.cross_attention": False},
            "1-layer-adapter": {"llmesr.adapter_layers": 1},
            "random-init": {"llmesr.collaborative_start": "random"},
        }
    }
]
