"""LLM-ESR's table 6: item prompts in full or cropped to name and categories, embeddings frozen or trained; three seeds.

    python -m launch.sweep --sweep=text_and_freezing --dataset=yelp

The cropped prompts are embedded by TF-IDF on the spot. Embeddings of another encoder are another data folder
(`launch.embed --crop --data_dir=...`): copy this file, with {"data_dir": "..."} in place of `semantic.crop`.
"""

BASE = {"method": "llmesr", "seeds": "42,43,44"}
GRIDS = [
    {
        "text": {"full": {}, "crop": {"semantic.crop": True}},
        "embeddings": {"frozen": {}, "wo-F": {"llmesr.freeze_semantic": False}},
    }
]
