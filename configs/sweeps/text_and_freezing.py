"""LLM-ESR's table 6: item prompts in full or cropped to name and categories, embeddings frozen or trained; three seeds.

    python -m launch.sweep --sweep=text_and_freezing --dataset=yelp

Both kinds of prompts are embedded by TF-IDF in the runs themselves, so the data folder must have no embedding files.
For the embeddings of another encoder, use the sweep `text_and_freezing_files`.
"""

BASE = {"method": "llmesr", "seeds": "42,43,44"}
GRIDS = [
    {
        "text": {"full": {}, "crop": {"semantic.crop": True}},
        "embeddings": {"frozen": {}, "wo-F": {"llmesr.freeze_semantic": False}},
    }
]
