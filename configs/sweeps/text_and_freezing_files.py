"""LLM-ESR's table 6 with embedding files: those of the data folder, and those of the cropped prompts in `crop/` below it.

mkdir data/yelp/crop && cp data/yelp/* data/yelp/crop
python -m launch.embed --dataset=yelp --encoder=openai --model=text-embedding-3-small
python -m launch.embed --dataset=yelp --encoder=openai --model=text-embedding-3-small --crop --data_dir=data/yelp/crop
python -m launch.sweep --sweep=text_and_freezing_files --dataset=yelp
"""

BASE = {"method": "llmesr", "seeds": "42,43,44", "semantic.encoder": "files"}
GRIDS = [
    {
        "text": {"full": {}, "crop": {"semantic.folder": "crop"}},
        "embeddings": {"frozen": {}, "wo-F": {"llmesr.freeze_semantic": False}},
    }
]
