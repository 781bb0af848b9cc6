"""What the tests of raw files share."""

import prepared
import pytest

from llmesr_jax.core.errors import InputError


@pytest.fixture
def refused(tmp_path):
    """refused(*args) -> the message; nothing was written beside the raw files."""

    def refused(*args):
        with pytest.raises(InputError) as caught:
            prepared.run(tmp_path / "raw", tmp_path / "data" / "out", args)
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(str(tmp_path), "")

    return refused
