"""The slow way: events of one model version, taken one by one as they were found in documents."""

from __future__ import annotations

import numpy as np
from xxhash import xxh3_64_intdigest

from streamdrift.codecs.places import Event
from streamdrift.codecs.source import DecodedBatch
from streamdrift.events import Batch, SourceKind
from streamdrift.layout import Layout
from streamdrift.rows import encode_row


class Rows:
    """Events on one grid as they come in, one at a time."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._values: list[list[float]] = []
        self._index: list[int] = []
        self._times: list[int] = []
        self._hashes: list[int] = []
        self._type_errors: list[tuple[int, int]] = []
        self._unseen: list[tuple[int, int, str]] = []
        self._without_features: list[bool] = []
        self._payloads: list[bytes] = []

    def add(self, event: Event, index: int) -> None:
        """Add the event of the message at ``index``."""
        row = len(self._index)
        prediction = event.prediction if self._layout.kind is SourceKind.PREDICTIONS else None
        cells = self._layout.cells(event.features, prediction)
        self._values.append(cells.values)
        self._type_errors += [(row, column) for column in cells.type_errors]
        self._unseen += [(row, column, name) for column, name in cells.unseen]
        self._without_features.append(event.features is None)
        if self._layout.grid.blind:
            self._payloads.append(encode_row(event.features, prediction))
        self._index.append(index)
        self._times.append(event.time)
        self._hashes.append(xxh3_64_intdigest(event.identity))

    def batch(self, kind: SourceKind) -> DecodedBatch:
        """All that was added."""
        n, grid = len(self._index), self._layout.grid
        events = Batch(
            grid,
            np.array(self._times, dtype=np.int64),
            np.array(self._hashes, dtype=np.uint64),
            np.array(self._values, dtype=np.float64).reshape(n, len(grid.columns)).copy(order="F"),
            np.array(self._type_errors, dtype=np.int64).reshape(-1, 2),
            tuple(self._unseen),
            np.array(self._without_features) if any(self._without_features) else None,
            np.ones(n, dtype=np.bool_) if kind is SourceKind.FEATURES else None,
            tuple(self._payloads) if grid.blind else None,
        )
        return DecodedBatch(events, np.array(self._index, dtype=np.int64))
