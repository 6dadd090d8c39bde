"""Tables of training rows, read in chunks and as often as needed: CSV, JSON and Parquet files, and columns in memory.

A reader is a ``Table``. It yields the values of each chunk as ``cells`` describes them, and does not interpret
them; whoever reads a table that is not ``typed`` must find out what its text means.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from streamdrift.cells import condense, objects
from streamdrift.derived import Cell
from streamdrift.errors import ConfigurationError
from streamdrift.rows import values_of

if TYPE_CHECKING:
    from _csv import Reader

    import pyarrow as pa

CHUNK_ROWS: Final = 1 << 16
CHUNK_CELLS: Final = 1 << 20
"""Wide tables come in shorter chunks: a chunk of text takes some 60 MB whatever its shape."""
MIN_CHUNK_ROWS: Final = 256

MISSING_CELLS: Final = frozenset(["", "nan", "NaN", "NAN", "null", "NULL"])
"""Cells of a CSV file that hold no value. Not ``NA`` or ``None``: the one is Namibia, the other may be a category."""

Chunk = Mapping[str, NDArray[Any]]
"""Values by field name, all of the same length."""


class Table(Protocol):
    """Rows with named fields."""

    @property
    def names(self) -> Sequence[str]:
        """Field names, each once."""

    @property
    def typed(self) -> bool:
        """Whether values have their own types; False: they are text (``str`` or None)."""

    def chunks(self) -> Iterator[Chunk]:
        """All rows from the first on, at most ``CHUNK_ROWS`` at a time. Raises ``ConfigurationError``."""


Refuse = Callable[[int, str], None]
"""Is told the line of a row that cannot be read, and why."""


def open_table(
    path: Path, missing: Iterable[str] = (), delimiter: str | None = None, refuse: Refuse | None = None
) -> Table:
    """The table in a file: ``.csv``, ``.tsv``, ``.jsonl`` (also with ``.gz``) or ``.parquet``.

    ``missing``: further cells of CSV that hold no value. ``delimiter`` of CSV, if it is not the suffix's.
    ``refuse`` is told of rows of CSV that cannot be read, and they are left out; without it they are an error.
    Raises ``ConfigurationError`` for what cannot be opened or read as a table.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: {'is a directory' if path.is_dir() else 'no such file'}")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    match suffixes[-2] if packed and len(suffixes) > 1 else suffixes[-1] if suffixes else "":
        case ".csv" | ".tsv" as suffix:
            usual = "\t" if suffix == ".tsv" else ","
            return CsvTable(path, delimiter or usual, MISSING_CELLS.union(missing), refuse)
        case ".jsonl" | ".ndjson":
            return JsonTable(path)
        case ".parquet" | ".pq" if not packed:
            return ParquetTable(path)
    raise ConfigurationError(
        f"{path}: unknown format; expected a .csv, .tsv or .jsonl file (each also with .gz), or a .parquet file"
    )


def chunk_rows(columns: int) -> int:
    """Rows of a chunk of so many columns."""
    return max(MIN_CHUNK_ROWS, min(CHUNK_ROWS, CHUNK_CELLS // max(columns, 1)))


def checked_names(names: Sequence[str], where: object) -> tuple[str, ...]:
    """Names, if none is empty and none stands twice."""
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise ConfigurationError(f"{where}: column {place} has no name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{where}: more than one column is named {', '.join(map(repr, twice))}")
    return tuple(names)


class CsvTable:
    """A CSV file with a header, in UTF-8 and with quotes as Excel writes them.

    Blank lines are skipped, and so is a first column without a name.
    """

    typed = False

    def __init__(self, path: Path, delimiter: str, missing: frozenset[str], refuse: Refuse | None = None) -> None:
        self._path = path
        self._refuse = refuse
        self._delimiter = delimiter
        self._missing = missing
        with self._rows() as rows:
            header = next(rows, None)
        if header is None:
            raise ConfigurationError(f"{path}: empty; expected a header with the names of the columns")
        if len(header) == 1 and any(other in header[0] for other in ";\t|,"):
            raise ConfigurationError(f"{path}: the header is one name, {header[0]!r}: is the delimiter another one?")
        # What numbers the rows has no name, as pandas and R write it.
        self._numbers = int(len(header) > 1 and not header[0].strip())
        self.names = checked_names(header[self._numbers :], path)

    def chunks(self) -> Iterator[Chunk]:
        size = chunk_rows(len(self.names))
        with self._rows() as rows:
            next(rows)
            while chunk := list(islice(rows, size)):
                columns = islice(zip(*chunk, strict=True), self._numbers, None)
                yield {name: self._values(cells) for name, cells in zip(self.names, columns, strict=True)}

    def _values(self, cells: Sequence[str]) -> NDArray[np.object_]:
        missing = self._missing
        if missing.isdisjoint(cells):
            return objects(cells)
        return objects(None if cell in missing else cell for cell in cells)

    @contextmanager
    def _rows(self) -> Iterator[Iterator[list[str]]]:
        """Rows, the header first. What is wrong with the file is said with the line where it was seen."""
        line = 0

        def rows(file: TextIO) -> Iterator[list[str]]:
            nonlocal line
            width = 0
            reader = csv.reader(file, delimiter=self._delimiter, strict=True)
            while (row := self._next(reader)) is not None:
                line = reader.line_num
                if row:
                    width = width or len(row)
                    if len(row) == width:
                        yield row
                    elif self._refuse is None:
                        raise ConfigurationError(f"{self._path}, line {line}: {len(row)} cells, the header has {width}")
                    else:
                        self._refuse(line, f"{len(row)} cells, the header has {width}")

        try:
            with _open_text(self._path) as file:
                yield rows(file)
        except UnicodeDecodeError:
            raise ConfigurationError(f"{self._path}, after line {line}: is not UTF-8") from None
        except csv.Error as error:
            raise ConfigurationError(f"{self._path}, after line {line}: {error}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigurationError(f"{self._path}: cannot be read: {error}") from None

    def _next(self, reader: Reader) -> list[str] | None:
        """The next row; None behind the last."""
        while True:
            try:
                return next(reader, None)
            except csv.Error as error:
                if self._refuse is None:
                    raise
                self._refuse(reader.line_num, str(error))


def _open_text(path: Path) -> TextIO:
    # utf-8-sig: Excel begins its files with a byte order mark, which would become part of the first name.
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


class ParquetTable:
    """A Parquet file; needs pyarrow. Fields of structs are columns with dotted names."""

    typed = True

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise ConfigurationError(
                f"{path}: reading Parquet needs pyarrow: pip install 'streamdrift[parquet]' (CSV needs nothing)"
            ) from None
        self._path = path
        self._errors = (pa.ArrowException, OSError)
        self._open: Callable[[], Any] = lambda: pq.ParquetFile(path)
        with self._readable(), self._open() as file:
            empty = _flat(file.schema_arrow.empty_table())
        self.names = checked_names(empty.column_names, path)

    def chunks(self) -> Iterator[Chunk]:
        import pyarrow as pa

        with self._readable(), self._open() as file:
            for batch in file.iter_batches(batch_size=chunk_rows(len(self.names))):
                flat = _flat(pa.Table.from_batches([batch]))
                yield {name: _arrow_values(flat.column(name)) for name in self.names}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise ConfigurationError(f"{self._path}: cannot be read as Parquet: {error}") from None


def _flat(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _arrow_values(column: pa.ChunkedArray) -> NDArray[Any]:
    """An Arrow column as ``cells`` describes values: decimals are numbers, dates and times ``datetime64``."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    values: NDArray[Any] = column.to_numpy()
    return condense(values)


class JsonTable:
    """A file with a JSON object a line: a row of the features, or whole events as the contract has them.

    Fields of objects are columns with dotted names. Of events, ``features`` and ``prediction`` are read.
    """

    typed = True

    def __init__(self, path: Path) -> None:
        self._path = path
        # Twice as long as the table itself is read, but names that come late must be known from the first chunk on.
        self.names = tuple(dict.fromkeys(name for row in self._rows() for name in row))
        if not self.names:
            raise ConfigurationError(f"{path}: empty; expected a JSON object a line")

    def chunks(self) -> Iterator[Chunk]:
        size = chunk_rows(len(self.names))
        rows = self._rows()
        while chunk := list(islice(rows, size)):
            yield {name: objects(row.get(name) for row in chunk) for name in self.names}

    def _rows(self) -> Iterator[Mapping[str, Cell]]:
        line = 0
        try:
            with _open_text(self._path) as file:
                for line, text in enumerate(file, 1):  # noqa: B007 — said where something is wrong
                    if text.strip():
                        yield _row_of(json.loads(text))
        except UnicodeDecodeError:
            raise ConfigurationError(f"{self._path}, after line {line}: is not UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{self._path}, line {line}: {error}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigurationError(f"{self._path}: cannot be read: {error}") from None


def _row_of(document: object) -> Mapping[str, Cell]:
    if not isinstance(document, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 — what is wrong is data
    features, prediction = document.get("features"), document.get("prediction")
    if not isinstance(features, dict):
        return values_of(document)
    parts = values_of(prediction) if isinstance(prediction, dict) else {}
    return {**values_of(features), **{f"prediction.{name}": cell for name, cell in parts.items()}}


class ColumnTable:
    """Columns in memory: arrays or sequences by name, all of the same length."""

    typed = True

    def __init__(self, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> None:
        """Raises ``ConfigurationError`` if the lengths differ."""
        self.names = checked_names(list(columns), "columns")
        self._columns = {name: _memory_values(values) for name, values in columns.items()}
        lengths = {len(values) for values in self._columns.values()}
        if len(lengths) > 1:
            raise ConfigurationError(f"columns: all must have the same length, they have {sorted(lengths)}")
        self._rows = max(lengths, default=0)

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, object]]) -> ColumnTable:
        """The table of rows such as the ``features`` of events: nested mappings get dotted names, gaps are missing."""
        flat = [values_of(row) for row in rows]
        names = dict.fromkeys(name for row in flat for name in row)
        return cls({name: [row.get(name) for row in flat] for name in names})

    def chunks(self) -> Iterator[Chunk]:
        size = chunk_rows(len(self.names))
        for start in range(0, self._rows, size):
            yield {name: values[start : start + size] for name, values in self._columns.items()}


def _memory_values(values: Sequence[object] | NDArray[Any]) -> NDArray[Any]:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "biufMm":
        return values
    # The elements of numpy arrays of text, and numpy scalars in lists, are to be Python's own.
    return condense(objects(value.item() if isinstance(value, np.generic) else value for value in values))
