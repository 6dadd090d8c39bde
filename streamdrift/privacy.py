"""Values that must not leave the codec: dropped, or replaced by a hash before anything else is made of them.

A *name* is the flattened name of a feature (``customer.email``) or of a part of the prediction
(``prediction.label``). A glob speaks of a name that it matches, and of all that is below a group that it matches:
``customer`` and ``customer.*`` both cover ``customer.address.street``.

A dropped value was never there: it is neither counted nor learned from, and no column watches it. A hashed one counts
as a category by its hash, sixteen hexadecimal digits of BLAKE2b under the installation's salt. That is a pseudonym:
whoever knows the salt and can guess a value can test the guess.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from streamdrift.grids import Column, Kind, category_name

HASHED: Final = "#"
"""What a hash begins with, so that none looks like a number."""
MAX_DEPTH: Final = 32
"""Objects within objects that are looked into; what lies deeper is left out."""
_MAX_NAMES: Final = 10_000
"""Names of which the fate is remembered."""
_PREDICTION: Final = "prediction."


class Fate(Enum):
    """What happens to a value."""

    KEPT = "kept"
    HASHED = "hashed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Privacy:
    """Globs of what is dropped, which wins, and of what is hashed."""

    drop: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    salt: bytes = b""
    """Up to 64 bytes."""
    _fates: dict[str, Fate] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __bool__(self) -> bool:
        """Whether anything is to be dropped or hashed."""
        return bool(self.drop or self.hash)

    def fate(self, name: str) -> Fate:
        """What happens to the value of a flattened name."""
        known = self._fates.get(name)
        if known is None:
            groups = [name, *(name[:end] for end, character in enumerate(name) if character == ".")]
            known = next((fate for fate, globs in self._globs() if _any_match(groups, globs)), Fate.KEPT)
            if len(self._fates) >= _MAX_NAMES:
                self._fates.clear()
            self._fates[name] = known
        return known

    def features(self, features: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The features of an event without what must not be known of them."""
        return self._kept(features, "", MAX_DEPTH) if self and features else features

    def prediction(self, prediction: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The prediction of an event, likewise."""
        return self._kept(prediction, _PREDICTION, MAX_DEPTH) if self and prediction else prediction

    def hashed(self, text: str) -> str:
        """The pseudonym of a text."""
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, key=self.salt)
        return HASHED + digest.hexdigest()

    def column(self, column: Column) -> Column | None:
        """The column that counts what is left of a column's values; None if nothing can be counted."""
        match self.fate(column.source):
            case Fate.KEPT:
                return column
            case Fate.HASHED if column.kind is Kind.CATEGORICAL:
                return msgspec.structs.replace(column, categories=tuple(map(self.hashed, column.categories)))
        return None

    def _globs(self) -> tuple[tuple[Fate, tuple[str, ...]], ...]:
        return (Fate.DROPPED, self.drop), (Fate.HASHED, self.hash)

    def _kept(self, document: Mapping[str, Any], prefix: str, depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in document.items():
            name = prefix + key
            fate = self.fate(name)
            if fate is Fate.DROPPED:
                continue
            if isinstance(value, Mapping):
                if depth:
                    kept[key] = self._kept(value, f"{name}.", depth - 1)
            else:
                kept[key] = value if fate is Fate.KEPT else self._hashed_value(value)
        return kept

    def _hashed_value(self, value: object) -> object:
        if isinstance(value, str | bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
            return self.hashed(category_name(value))
        return None if value is None or isinstance(value, float) else []  # an array is of a wrong type, as ever


def _any_match(names: list[str], globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs for name in names)
