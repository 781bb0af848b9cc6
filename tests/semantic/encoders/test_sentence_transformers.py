"""The encoder of local models: with a stand-in for the library always, with a real tiny model where it is installed."""

import sys
import types

import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.encoders import Text
from llmesr_jax.semantic.encoders import sentence_transformers as encoder


class _Model:
    max_seq_length = 256
    seen = []

    def __init__(self, name, device=None):
        if name == "absent":
            raise OSError("no such model\nand a long explanation")
        self.name, self.device = name, device

    def encode(self, texts, *, batch_size, show_progress_bar, convert_to_numpy, normalize_embeddings):
        assert not show_progress_bar and convert_to_numpy and not normalize_embeddings
        _Model.seen.append((len(texts), batch_size))
        return np.array([[len(text), 1] for text in texts], np.float16)


@pytest.fixture
def library(monkeypatch):
    _Model.seen = []
    module = types.SimpleNamespace(SentenceTransformer=_Model, __version__="0")
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)


def test_texts_go_through_in_bounded_groups(library, tmp_path):
    texts = [Text(bytes([n]), "x" * n, 0) for n in range(40)]
    made = encoder.load(encoder.Config(model="toy", batch_size=1))
    got = list(made.encode(iter(texts), tmp_path, None))
    ends = (0, 1, 3, 7, 15, 31, 40)  # more and more, as long as they are quick
    assert [answer.keys for answer in got] == [[bytes([n]) for n in range(a, b)] for a, b in zip(ends, ends[1:])]
    vectors = np.concatenate([answer.vectors for answer in got])
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[:, 0], np.arange(40, dtype=np.float32))
    assert _Model.seen == [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (9, 1)]
    assert made.identity == {"model": "toy"} and made.notes()["max_tokens"] == 256


def test_a_folder_is_known_by_what_is_in_it(library, tmp_path):
    identities = []
    for place, content in (("a", "weights"), ("b", "weights"), ("c", "others")):
        (tmp_path / place / "model").mkdir(parents=True)
        (tmp_path / place / "model" / "file").write_text(content)
        identities.append(encoder.load(encoder.Config(model=str(tmp_path / place / "model"))).identity)
    assert identities[0] == identities[1] != identities[2]
    assert [identity["model"] for identity in identities] == ["model"] * 3


def test_what_is_missing_is_one_line(library, monkeypatch):
    with pytest.raises(InputError, match="--model is missing"):
        encoder.load(encoder.Config())
    with pytest.raises(InputError, match=r"--model=absent: cannot be loaded \(no such model\); expected the name"):
        encoder.load(encoder.Config(model="absent"))
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"run pip install sentence-transformers"):
        encoder.load(encoder.Config(model="toy"))


@pytest.fixture
def folder_of_a_model(tmp_path):
    """A model of one layer with drawn weights, in a folder as the library saves it."""
    library = pytest.importorskip("sentence_transformers")
    transformers = pytest.importorskip("transformers")
    from sentence_transformers import models

    words = "[PAD] [UNK] [CLS] [SEP] [MASK] red blue mug hat thing".split()
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path / "bert")
    parts = [models.Transformer(str(tmp_path / "bert"), max_seq_length=32), models.Pooling(16)]
    library.SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path / "model"))
    return tmp_path / "model"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_real_model_in_a_folder(folder_of_a_model, tmp_path):
    made = encoder.load(encoder.Config(model=str(folder_of_a_model), device="cpu"))
    said = ["red mug", "blue hat", "thing", "red red mug"]
    answers = list(made.encode(iter([Text(text.encode(), text, 0) for text in said]), tmp_path, None))
    assert [key.decode() for answer in answers for key in answer.keys] == said
    vectors = np.concatenate([answer.vectors for answer in answers])
    assert vectors.shape == (4, 16) and vectors.dtype == np.float32 and len(np.unique(vectors, axis=0)) == 4
    assert made.identity["model"] == "model" and made.notes()["max_tokens"] == 32
