"""Reads values out of JSON texts without making objects of them: compiled to machine code when it is first called.

What is read must look like a template: the same keys in the same order, with the same space between them. Messages of
one service do, nearly always. The rest is refused: the callers have other ways to read it, and to judge it. So all
doubt means refusal here, and nothing is taken that those ways would read otherwise.

Texts lie in one buffer with ``PADDING`` zero bytes behind them, and a place in them is an address: a reference to an
array, counted at every call, would cost as much as a number. Digits are read eight at a time (Langdale and Lemire
2019, "Parsing gigabytes of JSON per second") and rounded correctly: by one operation where that is exact (Clinger 1990,
"How to read floating point numbers accurately"), else from a product of 128 bits (Lemire 2021, "Number parsing at a
gigabyte per second").

All of it is in one file, since numba keeps what it compiled until the file changes that it came from; and in few
functions, since what is called in machine code cannot be kept in registers.
"""
# Integers here are machine words, and rows of tables have fields: numba checks these types, mypy does not know them.
# mypy: ignore-errors
# ruff: noqa: C901, PLR0911, PLR0912, PLR0913, PLR0915, PLR0917 — functions are as long as machine code likes them, see above

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from streamdrift.codecs.tokens import (
    CATEGORY,
    IDENTITY,
    IS_FLOAT,
    IS_INTEGER,
    LENGTH,
    MAX_TIME,
    NUMBER,
    REFUSED,
    TIME,
    UNREAD,
)

Table = NDArray[np.void]

inlined: Final[Callable[..., Any]] = njit(inline="always", error_model="numpy")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in machine code, which is kept for the next start."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        made: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError:  # no place for it can be written to
        made = njit(**options)(function)
    return made


# What neither Python nor numba has.

_BYTE, _WORD, _DOUBLE, _PRODUCT = ir.IntType(8), ir.IntType(64), ir.DoubleType(), ir.IntType(128)
_ZERO_IS_DEFINED, _ZERO_IS_UNDEFINED = ir.Constant(ir.IntType(1), 0), ir.Constant(ir.IntType(1), 1)

Emit = Callable[[Any, Any], Any]
"""Writes an operation: its builder and operands to its result."""


def _unary(result: Any, operand: Any, emit: Emit) -> Callable[..., Any]:  # noqa: ANN401 — numba's types have none
    made: Callable[..., Any] = intrinsic(
        lambda _, a: (result(operand), lambda _context, builder, _signature, args: emit(builder, args[0]))  # noqa: ARG005 — numba counts the operands
    )
    return made


def _wide_product(builder: Any, args: Any) -> Any:  # noqa: ANN401 — llvmlite's types have none
    product = builder.mul(*(builder.zext(arg, _PRODUCT) for arg in args))
    return builder.trunc(builder.lshr(product, ir.Constant(_PRODUCT, 64)), _WORD)


def _store(context: Any, builder: Any, args: Any) -> Any:  # noqa: ANN401 — llvmlite's types have none
    builder.store(args[1], builder.inttoptr(args[0], _DOUBLE.as_pointer()))
    return context.get_dummy_value()


word_at = _unary(
    types.uint64,
    types.int64,
    lambda builder, at: builder.load(builder.inttoptr(at, _WORD.as_pointer()), align=1),
)
"""The eight bytes at an address, the first in the lowest bits."""
byte_at = _unary(
    types.uint64,
    types.int64,
    lambda builder, at: builder.zext(builder.load(builder.inttoptr(at, _BYTE.as_pointer())), _WORD),
)
leading_zeros = _unary(types.int64, types.uint64, lambda builder, x: builder.ctlz(x, _ZERO_IS_UNDEFINED))
trailing_zeros = _unary(types.int64, types.uint64, lambda builder, x: builder.cttz(x, _ZERO_IS_DEFINED))
as_float = _unary(types.float64, types.uint64, lambda builder, bits: builder.bitcast(bits, _DOUBLE))
as_word = _unary(types.int64, types.float64, lambda builder, x: builder.bitcast(x, _WORD))
upper_product = intrinsic(
    lambda _, a, b: (  # noqa: ARG005 — numba counts the operands
        types.uint64(types.uint64, types.uint64),
        lambda _context, builder, _signature, args: _wide_product(builder, args),
    )
)
"""The upper 64 bits of the product of two words."""
store = intrinsic(
    lambda _, at, x: (  # noqa: ARG005 — numba counts the operands
        types.void(types.int64, types.float64),
        lambda context, builder, _signature, args: _store(context, builder, args),
    )
)

# Numbers

U = np.uint64
_ZEROS: Final = U(0x3030303030303030)
_NINE: Final = U(9)
_ZERO: Final = U(ord("0"))
_MOST_DIGITS: Final = 19
"""So many digits always fit 64 bits."""
_SMALLEST, _LARGEST = -64, 64
"""Powers of ten of the wide product; numbers of other powers are refused."""


def _powers_of_five() -> NDArray[np.uint64]:
    """The 128 leading bits of 5**q, as two words; of a reciprocal they are rounded up. Shape (powers, 2)."""
    rows = []
    for q in range(_SMALLEST, _LARGEST + 1):
        whole = 5 ** abs(q)
        bits = whole.bit_length()
        if q >= 0:
            leading = whole << (128 - bits) if bits <= 128 else whole >> (bits - 128)  # noqa: PLR2004 — two words
        else:
            leading = (1 << (bits + 127)) // whole + 1
            leading >>= max(0, leading.bit_length() - 128)
        rows.append((leading >> 64, leading & 0xFFFFFFFFFFFFFFFF))
    return np.array(rows, dtype=np.uint64)


_FIVES: Final = _powers_of_five()
_TENS: Final = np.array([10**k for k in range(20)], dtype=np.uint64)
_EXACT_TENS: Final = np.array([10.0**k for k in range(23)])
"""The powers of ten that float64 holds exactly."""
_SIGNS: Final = np.array([1.0, -1.0])


@inlined
def digits_of(word: int) -> int:
    """How many of the first bytes are digits; of ``word`` the zeros were taken already."""
    return trailing_zeros(((word + U(0x7676767676767676)) | word) & U(0x8080808080808080)) >> 3


@inlined
def number_of(word: int, digits: int) -> int:
    """The number that the first ``digits`` bytes write, at least one."""
    pairs = word << U(64 - 8 * digits)
    pairs = pairs * U(10) + (pairs >> U(8))
    low = (pairs & U(0x000000FF000000FF)) * U(0x000F424000000064)
    high = ((pairs >> U(16)) & U(0x000000FF000000FF)) * U(0x0000271000000001)
    return (low + high) >> U(32)


@inlined
def is_digit(at: int) -> bool:
    """Whether a digit stands here."""
    return byte_at(at) - _ZERO <= _NINE


@compiled
def rounded(w: int, q: int) -> float:
    """W · 10**q as the nearest float64; NaN if that is not a normal one, or the product does not tell."""
    if w == U(0):
        return 0.0
    zeros = leading_zeros(w)
    w <<= U(zeros)
    upper, lower = upper_product(w, _FIVES[q - _SMALLEST, 0]), w * _FIVES[q - _SMALLEST, 0]
    if upper & U(0x1FF) == U(0x1FF):  # the second word of the power could carry into what is kept
        more = upper_product(w, _FIVES[q - _SMALLEST, 1])
        lower += more
        upper += U(more > lower)
    top = upper >> U(63)
    shift = top + U(9)
    mantissa = upper >> shift
    exponent = ((217706 * q) >> 16) + 63 + np.int64(top) - zeros + 1023
    if exponent <= 0 or exponent >= 0x7FE:  # noqa: PLR2004 — where float64 ends
        return math.nan
    if lower <= U(1) and -4 <= q <= 23 and mantissa & U(3) == U(1) and mantissa << shift == upper:  # noqa: PLR2004 — powers that fit a word
        mantissa &= ~U(1)  # just between two: the even one
    mantissa = (mantissa + (mantissa & U(1))) >> U(1)
    if mantissa >> U(53):
        mantissa >>= U(1)
        exponent += 1
    return as_float((mantissa & ~(U(1) << U(52))) | (U(exponent) << U(52)))


@inlined
def number(at: int) -> tuple[float, int]:
    """A number and the address behind it, which is ``REFUSED`` where there is none, or one of too many digits."""
    negative = np.int64(byte_at(at) == U(ord("-")))
    at += negative
    word = word_at(at) ^ _ZEROS
    count = digits_of(word)
    if (count == 0) | ((count > 1) & (word & U(0xFF) == U(0))):
        return 0.0, REFUSED
    w = number_of(word, count)
    at += count
    if count == 8:  # noqa: PLR2004 — bytes of a word
        while is_digit(at):
            w = w * U(10) + (byte_at(at) - _ZERO)
            at += 1
            count += 1
        if count > _MOST_DIGITS:
            return 0.0, REFUSED
    q = 0
    is_integer = True
    if byte_at(at) == U(ord(".")):
        is_integer = False
        at += 1
        first = at
        word = word_at(at) ^ _ZEROS
        more = digits_of(word)
        if more == 0:
            return 0.0, REFUSED
        w = w * _TENS[more] + number_of(word, more)
        at += more
        if more == 8:  # noqa: PLR2004
            word = word_at(at) ^ _ZEROS
            more = digits_of(word)
            if more:
                w = w * _TENS[more] + number_of(word, more)
                at += more
                if more == 8:  # noqa: PLR2004
                    while is_digit(at):
                        w = w * U(10) + (byte_at(at) - _ZERO)
                        at += 1
        q = first - at
        if count - q > _MOST_DIGITS:
            if count != 1 or byte_at(first - 2) != _ZERO:
                return 0.0, REFUSED
            while byte_at(first) == _ZERO:  # zeros in front do not count
                first += 1
            if at - first > _MOST_DIGITS:
                return 0.0, REFUSED
    if byte_at(at) | U(0x20) == U(ord("e")):
        is_integer = False
        at += 1
        sign = 1
        if byte_at(at) == U(ord("-")):
            sign = -1
            at += 1
        elif byte_at(at) == U(ord("+")):
            at += 1
        first = at
        exponent = 0
        while is_digit(at):
            exponent = exponent * 10 + np.int64(byte_at(at) - _ZERO)
            at += 1
            if at - first > 3:  # noqa: PLR2004 — digits of any power that float64 has
                return 0.0, REFUSED
        if at == first:
            return 0.0, REFUSED
        q += sign * exponent
    if w <= U(1 << 53) and -22 <= q <= 22:  # noqa: PLR2004 — where both are exact
        x = float(np.int64(w))
        x = x / _EXACT_TENS[-q] if q < 0 else x * _EXACT_TENS[q]
    elif q < _SMALLEST or q > _LARGEST:
        return 0.0, REFUSED
    else:
        x = rounded(w, q)
        if math.isnan(x):
            return 0.0, REFUSED
    if is_integer and w == U(0):  # as an integer, -0 is 0
        return 0.0, at
    return x * _SIGNS[negative], at


# Texts and literals

_QUOTE, _BACKSLASH, _SPACE = U(ord('"')), U(ord("\\")), U(ord(" "))
_NULL, _TRUE, _FALSE = (U(int.from_bytes(text, "little")) for text in (b"null", b"true", b"false"))
_FOUR, _FIVE = U(0xFFFFFFFF), U(0xFFFFFFFFFF)
_LAST_ASCII: Final = U(0x7F)
_ESCAPES: Final = np.frombuffer(b'"\\/bfnrt', dtype=np.uint8).astype(np.uint64)
_HASH_START, _HASH_PRIME = U(0xCBF29CE484222325), U(0x100000001B3)


@inlined
def equal(at: int, pattern: int, length: int) -> bool:
    """Whether ``length`` bytes are those of the pattern."""
    while length >= 8:  # noqa: PLR2004 — bytes of a word
        if word_at(at) != word_at(pattern):
            return False
        at += 8
        pattern += 8
        length -= 8
    return length == 0 or (word_at(at) ^ word_at(pattern)) << U(64 - 8 * length) == U(0)


@compiled
def text_end(at: int, last: int) -> int:
    """The address of the quote that ends a text; bytes up to ``last`` are taken, and no escapes."""
    while True:
        byte = byte_at(at)
        if byte == _QUOTE:
            return at
        if byte == _BACKSLASH or byte < _SPACE or byte > last:
            return REFUSED
        at += 1


@inlined
def name_at(at: int, names: Table, token: np.void, patterns: int) -> tuple[float, int]:
    """A category by its name, the quote before which is passed: its code, and the address behind the name."""
    value, start = _HASH_START, at
    while True:
        byte = byte_at(at)
        if byte == _QUOTE:
            break
        if byte == _BACKSLASH or byte < _SPACE:
            return 0.0, REFUSED
        value = (value ^ byte) * _HASH_PRIME
        at += 1
    if value == U(0):
        value = U(1)
    slot = np.int64(value >> U(32)) & token.mask
    name = names[token.names + slot]
    while name.hash != U(0):
        if name.hash == value and name.length == at - start and equal(start, patterns + name.start, name.length):
            return name.code, at + 1
        slot = (slot + 1) & token.mask
        name = names[token.names + slot]
    return 0.0, REFUSED


@compiled
def integer_end(at: int) -> int:
    """The address behind a natural number that fits 63 bits for sure, and is written as JSON has it."""
    start = at
    while is_digit(at):
        at += 1
    following = byte_at(at) | U(0x20)
    if at == start or following == U(ord(".")) or following == U(ord("e")):
        return REFUSED
    if at - start > 1 and byte_at(start) == _ZERO:
        return REFUSED
    return at if at - start + (byte_at(start) == U(ord("9"))) <= _MOST_DIGITS else REFUSED


@compiled
def is_fraction(at: int) -> bool:
    """Whether a number is no integer."""
    at += np.int64(byte_at(at) == U(ord("-")))
    while is_digit(at):
        at += 1
    return byte_at(at) == U(ord(".")) or byte_at(at) | U(0x20) == U(ord("e"))


@inlined
def spaces_end(at: int) -> int:
    """The address behind any white space."""
    while byte_at(at) == _SPACE or byte_at(at) - U(9) <= U(1) or byte_at(at) == U(13):
        at += 1
    return at


@compiled
def key_end(at: int) -> int:
    """The address of the value of a key, with the spaces before it."""
    if byte_at(at) != _QUOTE:
        return REFUSED
    at = text_end(at + 1, U(0xFF))
    if at == REFUSED:
        return REFUSED
    at = spaces_end(at + 1)
    if byte_at(at) != U(ord(":")):
        return REFUSED
    return spaces_end(at + 1)


@compiled
def scalar_end(at: int) -> int:
    """The address behind a text without escapes, a number or a literal."""
    if byte_at(at) == _QUOTE:
        at = text_end(at + 1, U(0xFF))
        return at if at == REFUSED else at + 1
    if word_at(at) & _FOUR == _NULL or word_at(at) & _FOUR == _TRUE:
        return at + 4
    if word_at(at) & _FIVE == _FALSE:
        return at + 5
    return number(at)[1]


@compiled
def value_end(at: int) -> int:
    """The address behind any value, of whatever depth."""
    depth, objects = 0, U(0)  # a bit for each level, set where it is an object
    while True:
        opening = byte_at(at)
        is_object = opening == U(ord("{"))
        if is_object or opening == U(ord("[")):
            depth += 1
            if depth > 60:  # noqa: PLR2004 — bits of the word
                return REFUSED
            objects = (objects << U(1)) | U(is_object)
            at = spaces_end(at + 1)
            if byte_at(at) != opening + U(2):  # not closed at once
                at = key_end(at) if is_object else at
                if at == REFUSED:
                    return REFUSED
                continue
        else:
            at = scalar_end(at)
            if at == REFUSED:
                return REFUSED
        while depth:
            at = spaces_end(at)
            closing = byte_at(at)
            at += 1
            if closing == U(ord(",")):
                at = spaces_end(at)
                at = key_end(at) if objects & U(1) else at
                if at == REFUSED:
                    return REFUSED
                break
            if closing != (U(ord("}")) if objects & U(1) else U(ord("]"))):
                return REFUSED
            depth -= 1
            objects >>= U(1)
        if depth == 0:
            return at


# Messages


@inlined
def category(at: int, token: np.void, names: Table, levels: Table, patterns: int) -> tuple[float, int]:
    """A category, or null: its code and the address behind it."""
    byte = byte_at(at)
    if byte == _QUOTE:
        return name_at(at + 1, names, token, patterns)
    if word_at(at) & _FOUR == _NULL:
        return math.nan, at + 4
    if word_at(at) & _FOUR == _TRUE:
        return token.true, REFUSED if math.isnan(token.true) else at + 4
    if word_at(at) & _FIVE == _FALSE:
        return token.false, REFUSED if math.isnan(token.false) else at + 5
    if token.levels == token.levels_end:
        return 0.0, REFUSED
    value, end = number(at)
    if end == REFUSED or abs(value) >= 2.0**53:  # from there on, float64 holds one integer for two
        return 0.0, REFUSED
    for i in range(token.levels, token.levels_end):
        if levels[i].value == value:
            return levels[i].code, end
    return 0.0, REFUSED


@compiled
def text_size(at: int) -> tuple[int, int]:
    """The characters of a text, whose first quote is passed, and the address behind it; refused if it is not UTF-8."""
    size = 0
    while True:
        byte = byte_at(at)
        if byte == _QUOTE:
            return size, at + 1
        if byte < _SPACE:
            return 0, REFUSED
        if byte == _BACKSLASH:
            if not is_simple_escape(byte_at(at + 1)):
                return 0, REFUSED
            at += 2
        elif byte <= _LAST_ASCII:
            at += 1
        else:
            following = continuation(byte, byte_at(at + 1))
            for i in range(1, following + 1):
                if byte_at(at + i) & U(0xC0) != U(0x80):
                    return 0, REFUSED
            if following == 0:
                return 0, REFUSED
            at += following + 1
        size += 1


@inlined
def is_simple_escape(byte: int) -> bool:
    """Whether a backslash and this byte are one character: all but numbers of characters."""
    for escape in _ESCAPES:  # noqa: SIM110 — numba has no generators inside of functions that are inlined
        if byte == escape:
            return True
    return False


@compiled
def continuation(first: int, second: int) -> int:
    """How many bytes follow the first of a character in UTF-8; 0 where it is none (Unicode standard, table 3-7)."""
    if U(0xC2) <= first <= U(0xDF):
        return 1
    if first == U(0xE0):
        return 2 if second >= U(0xA0) else 0
    if first == U(0xED):
        return 2 if second <= U(0x9F) else 0
    if U(0xE1) <= first <= U(0xEF):
        return 2
    if first == U(0xF0):
        return 3 if second >= U(0x90) else 0
    if first == U(0xF4):
        return 3 if second <= U(0x8F) else 0
    return 3 if U(0xF1) <= first <= U(0xF3) else 0


@inlined
def identity(at: int, row: int, spans: NDArray[np.int64]) -> int:
    """Put down where an id stands, which is an ASCII text or a natural number; the address behind it."""
    quoted = np.int64(byte_at(at) == _QUOTE)
    start = at + quoted
    end = text_end(start, _LAST_ASCII) if quoted else integer_end(at)
    spans[row, 0], spans[row, 1] = start, end
    return end if end == REFUSED else end + quoted


@inlined
def time(at: int, row: int, sizes: NDArray[np.int64], texts: NDArray[np.uint8], numbers: NDArray[np.int64]) -> int:
    """Put down a time as it is written; the address behind it."""
    if byte_at(at) == _QUOTE:
        end = text_end(at + 1, _LAST_ASCII)
        sizes[row] = end - at - 1
        if end == REFUSED or end - at - 1 > MAX_TIME:
            return REFUSED
        for i in range(end - at - 1):
            texts[row, i] = byte_at(at + 1 + i)
        return end + 1
    end = integer_end(at)
    if end != REFUSED:
        whole = 0
        for i in range(end - at):
            whole = whole * 10 + np.int64(byte_at(at + i) - _ZERO)
        sizes[row], numbers[row] = IS_INTEGER, whole
        return end
    value, end = number(at)
    sizes[row], numbers[row] = IS_FLOAT, as_word(value)
    return end if is_fraction(at) else REFUSED


@compiled
def read(
    starts: NDArray[np.int64],
    tokens: Table,
    names: Table,
    levels: Table,
    patterns: int,
    values: int,
    stride: int,
    spans: NDArray[np.int64],
    sizes: NDArray[np.int64],
    texts: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    taken: NDArray[np.bool_],
) -> int:
    """Read the messages that look like the template; how many these are.

    Args:
        starts: addresses of the messages, and the one behind the last. Shape (n + 1,).
        tokens: the template, as the other two; see the module ``tokens``.
        names: the categories' names.
        levels: the categories that are numbers.
        patterns: address of the template's bytes.
        values: address of the float64 that the first target of the first message goes to.
        stride: bytes between two targets of one message; the messages that are taken lie side by side.
        spans: receives the addresses of each id, and behind it. Shape (n, 2).
        sizes: receives the length of each time that is a text; else ``IS_INTEGER`` or ``IS_FLOAT``. Shape (n,).
        texts: receives the times that are texts. Shape (n, ``MAX_TIME``).
        numbers: receives the times that are integers, and the bits of those that are floats. Shape (n,).
        taken: receives whether each message was taken. Shape (n,).
    """
    row = 0
    for message in range(len(taken)):
        at, place, t = starts[message], values + 8 * row, 0
        while at != REFUSED:
            token = tokens[t]
            while not equal(at, patterns + token.literal, token.length):
                if not token.optional:
                    at = REFUSED
                    break
                if token.target >= 0:
                    store(place + token.target * stride, math.nan)
                t += 1
                token = tokens[t]
            if at == REFUSED:
                break
            at += token.length
            if token.kind == NUMBER:
                if token.nullable and word_at(at) & _FOUR == _NULL:
                    value, at = math.nan, at + 4
                else:
                    value, at = number(at)
                store(place + token.target * stride, value)
            elif token.kind == CATEGORY:
                value, at = category(at, token, names, levels, patterns)
                store(place + token.target * stride, value)
            elif token.kind == LENGTH:
                value = math.nan
                if byte_at(at) == _QUOTE:
                    size, at = text_size(at + 1)
                    value = float(size)
                else:
                    at = at + 4 if word_at(at) & _FOUR == _NULL else REFUSED
                store(place + token.target * stride, value)
            elif token.kind == UNREAD:
                at = value_end(at)
            elif token.kind == IDENTITY:
                at = identity(at, row, spans)
            elif token.kind == TIME:
                at = time(at, row, sizes, texts, numbers)
            else:
                break
            t += 1
        taken[message] = at == starts[message + 1]
        row += taken[message]
    return row
