"""A `ml_collections.ConfigDict` for type checkers, and a ConfigDict that records which values were set.

To a type checker an attribute is a setting or a section, of any type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ml_collections

    class ConfigDict(ml_collections.ConfigDict):
        def __getattr__(self, attribute: str) -> Any: ...
        def __setattr__(self, attribute: str, value: Any) -> None: ...
        def lock(self) -> Self: ...

else:
    from ml_collections import ConfigDict

__all__ = ["ConfigDict", "Recorded"]


class Recorded(ConfigDict):
    """A ConfigDict that records which of its values were set after it was made, even to an equal value."""

    def __init__(self, *args: Any, **kwargs: Any):
        object.__setattr__(self, "_given", set())
        super().__init__(*args, **kwargs)
        self._given.clear()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._given.add(key)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        object.__setattr__(self, "_given", set(state["_given"]))

    def copy_and_resolve_references(self, visit_map: dict[int, Any] | None = None) -> Recorded:
        """As in ConfigDict; the copy has the same record of values that were set."""
        copied = super().copy_and_resolve_references(visit_map)
        object.__setattr__(copied, "_given", set(self._given))
        return copied

    def given(self) -> frozenset[str]:
        """The names that were set."""
        return frozenset(self._given)
