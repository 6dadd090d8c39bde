"""True labels that stand in another table than the predictions, as they often do: found by the prediction's id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamdrift.cells import objects
from streamdrift.errors import ConfigurationError
from streamdrift.replay.messages import Refusals
from streamdrift.replay.roles import Roles, roles_of
from streamdrift.replay.rows import Block, Rows, plain


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a table."""

    by_id: Mapping[str, Any]
    prediction_id: str
    target: str
    """Names of the two columns."""

    @classmethod
    def read(cls, rows: Rows, of: Sequence[str], given: Roles) -> Labels:
        """Those in ``rows``, for a table with the columns ``of``.

        The id is the column that both have, the label the one other, or the one with a usual name, unless somebody
        says otherwise. Raises ``ConfigurationError`` where that is not clear.
        """
        prediction_id = given.prediction_id or _only([name for name in rows.names if name in of], "--prediction-id")
        if prediction_id not in rows.names or prediction_id not in of:
            raise ConfigurationError(f"only one of both tables has the column {prediction_id!r} (--prediction-id)")
        others = [name for name in rows.names if name != prediction_id]
        target = given.target or roles_of(others, Roles()).target or _only(others, "--target")
        if target in of:
            raise ConfigurationError(
                f"the table has labels of its own, in {target!r}; rename the column of one of both"
            )
        by_id: dict[str, Any] = {}
        for block in rows.blocks(roles_of(rows.names, Roles(prediction_id=prediction_id, target=target)), Refusals()):
            ids, values = (plain(block.columns[name]) for name in (prediction_id, target))
            by_id.update(zip(map(_same, ids), values, strict=True))
        return cls(by_id, prediction_id, target)


def _only(names: Sequence[str], option: str) -> str:
    if len(names) != 1:
        raise ConfigurationError(f"{option} is to say which column it is: {', '.join(names) or 'none fits'}")
    return names[0]


def _same(identity: object) -> str:
    """An id as text: a column of whole numbers is read as fractions where one of them is missing."""
    return str(int(identity)) if isinstance(identity, float) and identity.is_integer() else str(identity)


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Rows with the column of their labels: no value where none has the row's id."""

    rows: Rows
    labels: Labels

    @property
    def names(self) -> Sequence[str]:
        return (*self.rows.names, self.labels.target)

    def place(self, place: int) -> str:
        return self.rows.place(place)

    def blocks(self, roles: Roles, refusals: Refusals) -> Iterator[Block]:
        labels = self.labels
        for block in self.rows.blocks(replace(roles, target=None), refusals):
            ids = plain(block.columns[labels.prediction_id])
            column = objects(labels.by_id.get(_same(identity)) for identity in ids)
            yield block._replace(columns={**block.columns, labels.target: column})
