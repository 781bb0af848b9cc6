"""`ml_collections.ConfigDict` as type checkers are to see it: an attribute is a setting or a section, of any type."""

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

__all__ = ["ConfigDict"]
