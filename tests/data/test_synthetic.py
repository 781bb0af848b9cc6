"""The demo is the same everywhere, has the shape it is meant to have, and its texts say what its ids hide."""

import hashlib
import json

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from llmesr_jax.data import groups, synthetic
from llmesr_jax.data.reading import read_folder
from llmesr_jax.semantic.prompts import item_prompt

# Change these two on purpose only: every number in the README and docs about the demo changes with them.
INTERACTIONS_DIGEST = "60894b9b61fbcf66498efc29d50b9145e08c3c8f039995350f59ac7f6cfe2fef"
TEXTS_DIGEST = "9a30dc54d9a4583b51e9d0769b8509b36b42f8d4a664963eea93688e60c83e70"


@pytest.fixture(scope="module")
def shop():
    return synthetic.shop()


@pytest.fixture(scope="module")
def text_VxF(shop):
    """Unit rows: TF-IDF of the prompts, reduced to 64 numbers."""
    tfidf = TfidfVectorizer(sublinear_tf=True).fit_transform([item_prompt(r) for r in shop.corpus.item_records])
    return normalize(TruncatedSVD(64, random_state=0).fit_transform(tfidf))


def test_it_is_the_same_on_every_machine(shop):
    texts = hashlib.sha256(json.dumps(shop.corpus.item_records).encode()).hexdigest()
    assert (shop.corpus.digest, texts) == (INTERACTIONS_DIGEST, TEXTS_DIGEST)
    again = synthetic.demo()
    assert again.digest == shop.corpus.digest and again.item_records == shop.corpus.item_records
    assert synthetic.demo(seed=1).digest != shop.corpus.digest


def test_sizes_and_long_tail(shop):
    corpus = shop.corpus
    assert corpus.num_users == 2000 and 900 <= corpus.num_items <= 1000
    assert corpus.lengths_U.min() == 3 and corpus.lengths_U.max() == 60
    assert 4 <= np.median(corpus.lengths_U) <= 5 and 5 <= corpus.lengths_U.mean() <= 6
    assert (corpus.item_counts_V < 10).mean() > 0.5
    # Zipf: the head fifth of the items takes more than half of all training interactions.
    head = groups.head_items(corpus)
    assert corpus.item_counts_V[head].sum() > 0.5 * corpus.item_counts_V.sum()
    assert groups.members(corpus, "test")["tail_item"].mean() >= 0.25


def test_nobody_takes_an_item_twice(shop):
    users = np.repeat(np.arange(2000), shop.corpus.lengths_U)
    assert len(np.unique(np.stack([users, shop.corpus.items]), axis=1).T) == len(shop.corpus.items)


def test_small_shops_work():
    corpus = synthetic.demo(num_users=20, num_items=30)
    assert corpus.num_users == 20 and corpus.num_items <= 30 and corpus.lengths_U.max() <= 30


def test_order_matters(shop):
    """The next item shares the last one's sub-topic far more often than an item from earlier on does."""
    corpus, catalogue = shop.corpus, shop.catalogue
    group = (catalogue.topic * 4 + catalogue.subtopic)[corpus.items - 1]
    ends = corpus.offsets[1:][corpus.lengths_U >= 6]
    assert (group[ends - 1] == group[ends - 2]).mean() > 1.3 * (group[ends - 1] == group[ends - 6]).mean()


def test_texts_reveal_topics(shop, text_VxF):
    similar = text_VxF @ text_VxF.T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.argsort(-similar, axis=1)[:, :10]
    topic, group = shop.catalogue.topic, shop.catalogue.topic * 4 + shop.catalogue.subtopic
    assert (topic[nearest] == topic[:, None]).mean() > 0.9
    assert (group[nearest] == group[:, None]).mean() > 0.75


def test_texts_find_the_next_item_where_popularity_cannot(shop, text_VxF):
    """H@10 against 100 items the user does not have: the mean text of the history against popularity."""
    corpus, rng = shop.corpus, np.random.default_rng(0)
    rows = np.arange(corpus.num_users)
    has = np.zeros((corpus.num_users, corpus.num_items))
    has[np.repeat(rows, corpus.lengths_U), corpus.items - 1] = 1
    others = np.argsort(rng.random(has.shape) + 2 * has, axis=1)[:, :100]
    target = corpus.test_U - 1
    history = has.copy()
    history[rows, target] = 0

    def hits(score):
        above = (score[rows[:, None], others] > score[rows, target][:, None]).sum(axis=1)
        ties = (score[rows[:, None], others] == score[rows, target][:, None]).sum(axis=1)
        return np.clip((10 - above) / (ties + 1), 0, 1)

    popularity = hits(np.broadcast_to(corpus.item_counts_V, has.shape))
    content = hits(history @ text_VxF @ text_VxF.T)
    tail = groups.members(corpus, "test")["tail_item"]
    assert content.mean() > popularity.mean() + 0.2
    assert content[tail].mean() > popularity[tail].mean() + 0.6


def test_writing_and_reading_gives_the_same_corpus(shop, tmp_path):
    synthetic.write(shop.corpus, tmp_path / "shop")
    got = read_folder("demo", tmp_path / "shop")
    assert got.digest == shop.corpus.digest and tuple(got.item_records) == shop.corpus.item_records
    assert (tmp_path / "shop" / "inter.txt").read_text().startswith(f"1 {shop.corpus.items[0]}\n")
