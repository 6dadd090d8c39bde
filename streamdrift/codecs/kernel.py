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
# ruff: noqa: C901, PLR0911, PLR0912, PLR0915 — functions are as long as machine code likes them, see above

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
    EPOCH,
    FACT_BYTES,
    IDENTITY,
    IS_FLOAT,
    IS_INTEGER,
    IS_TIME,
    LENGTH,
    LEVEL_BYTES,
    NAME_BYTES,
    NUMBER,
    REFUSED,
    TIME,
    UNREAD,
)

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


def _store(context: Any, builder: Any, args: Any, kind: Any) -> Any:  # noqa: ANN401 — llvmlite's types have none
    builder.store(args[1], builder.inttoptr(args[0], kind.as_pointer()), align=1)
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
integer_at = _unary(
    types.int64,
    types.int64,
    lambda builder, at: builder.load(builder.inttoptr(at, _WORD.as_pointer()), align=1),
)
float_at = _unary(
    types.float64,
    types.int64,
    lambda builder, at: builder.load(builder.inttoptr(at, _DOUBLE.as_pointer()), align=1),
)
leading_zeros = _unary(types.int64, types.uint64, lambda builder, x: builder.ctlz(x, _ZERO_IS_UNDEFINED))
trailing_zeros = _unary(types.int64, types.uint64, lambda builder, x: builder.cttz(x, _ZERO_IS_DEFINED))
as_float = _unary(types.float64, types.uint64, lambda builder, bits: builder.bitcast(bits, _DOUBLE))
upper_product = intrinsic(
    lambda _, a, b: (  # noqa: ARG005 — numba counts the operands
        types.uint64(types.uint64, types.uint64),
        lambda _context, builder, _signature, args: _wide_product(builder, args),
    )
)
"""The upper 64 bits of the product of two words."""
put_float = intrinsic(
    lambda _, at, x: (  # noqa: ARG005 — numba counts the operands
        types.void(types.int64, types.float64),
        lambda context, builder, _signature, args: _store(context, builder, args, _DOUBLE),
    )
)
put_integer = intrinsic(
    lambda _, at, x: (  # noqa: ARG005 — numba counts the operands
        types.void(types.int64, types.int64),
        lambda context, builder, _signature, args: _store(context, builder, args, _WORD),
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


@compiled
def rare_number(at: int) -> tuple[float, int]:
    """As ``number``, where it is not worth its room in the loop."""
    return number(at)


# Texts and literals

_QUOTE, _BACKSLASH, _SPACE = U(ord('"')), U(ord("\\")), U(ord(" "))
_NULL, _TRUE, _FALSE = (U(int.from_bytes(text, "little")) for text in (b"null", b"true", b"false"))
_FOUR, _FIVE, _SIX = U(0xFFFFFFFF), U(0xFFFFFFFFFF), U(0xFFFFFFFFFFFF)
_UTC: Final = U(int.from_bytes(b"+00:00", "little"))
_DAYS: Final = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
"""Days of each month, by its number."""
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


_ONES, _HIGH = U(0x0101010101010101), U(0x8080808080808080)


@compiled
def text_end(at: int, last: int) -> int:
    """The address of the quote that ends a text; bytes up to ``last`` are taken, and no escapes.

    Of eight bytes at a time, the first that is not taken is found by the borrows of subtractions (Warren 2013,
    "Hacker's Delight", 6-1).
    """
    above = _HIGH if last == _LAST_ASCII else U(0)
    while True:
        word = word_at(at)
        quotes, backslashes = word ^ (_ONES * _QUOTE), word ^ (_ONES * _BACKSLASH)
        ends = ((quotes - _ONES) & ~quotes) | ((backslashes - _ONES) & ~backslashes) | ((word - _ONES * _SPACE) & ~word)
        ends = (ends & _HIGH) | (word & above)
        if ends != U(0):
            break
        at += 8
    at += trailing_zeros(ends) >> 3
    return at if byte_at(at) == _QUOTE else REFUSED


@inlined
def name_at(at: int, token: np.void) -> tuple[float, int]:
    """A category by its name, the quote before which is passed: its code, and the address behind the name."""
    digest, start = _HASH_START, at
    while True:
        byte = byte_at(at)
        if byte == _QUOTE:
            break
        if byte == _BACKSLASH or byte < _SPACE:
            return 0.0, REFUSED
        digest = (digest ^ byte) * _HASH_PRIME
        at += 1
    if digest == U(0):
        digest = U(1)
    slot = np.int64(digest >> U(32)) & token.mask
    name = token.names + NAME_BYTES * slot
    while word_at(name) != U(0):
        length = integer_at(name + 16)
        if word_at(name) == digest and length == at - start and equal(start, integer_at(name + 8), length):
            return float_at(name + 24), at + 1
        slot = (slot + 1) & token.mask
        name = token.names + NAME_BYTES * slot
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
    return rare_number(at)[1]


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
def category(at: int, token: np.void) -> tuple[float, int]:
    """A category, or null: its code and the address behind it."""
    byte = byte_at(at)
    if byte == _QUOTE:
        return name_at(at + 1, token)
    if word_at(at) & _FOUR == _NULL:
        return math.nan, at + 4
    if word_at(at) & _FOUR == _TRUE:
        return token.true, REFUSED if math.isnan(token.true) else at + 4
    if word_at(at) & _FIVE == _FALSE:
        return token.false, REFUSED if math.isnan(token.false) else at + 5
    if token.levels == token.levels_end:
        return 0.0, REFUSED
    value, end = rare_number(at)
    if end == REFUSED or abs(value) >= 2.0**53:  # from there on, float64 holds one integer for two
        return 0.0, REFUSED
    for level in range(token.levels, token.levels_end, LEVEL_BYTES):
        if float_at(level) == value:
            return float_at(level + 8), end
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


@compiled
def identity(at: int, fact: int) -> int:
    """Put down where an id stands, which is an ASCII text or a natural number; the address behind it."""
    quoted = np.int64(byte_at(at) == _QUOTE)
    end = text_end(at + quoted, _LAST_ASCII) if quoted else integer_end(at)
    put_integer(fact, at + quoted)
    put_integer(fact + 8, end)
    return end if end == REFUSED else end + quoted


@inlined
def two_digits(at: int) -> int:
    """The number that two characters write; 100 or more where one is no digit."""
    tens, ones = np.int64(byte_at(at) - _ZERO), np.int64(byte_at(at + 1) - _ZERO)
    return 10 * tens + ones if (tens >= 0) & (tens <= 9) & (ones >= 0) & (ones <= 9) else 100  # noqa: PLR2004 — digits


@compiled
def written_time(at: int) -> tuple[int, int]:
    """A time like 2026-11-22T10:00:00.123Z in microseconds since the epoch, and the address behind its quote.

    The days are counted from March on, so that the leap day is the last of its year (Hinnant 2014,
    "chrono-compatible low-level date algorithms").
    """
    century, year, month, day = two_digits(at), two_digits(at + 2), two_digits(at + 5), two_digits(at + 8)
    hour, minute, second = two_digits(at + 11), two_digits(at + 14), two_digits(at + 17)
    if (
        (century >= 100) | (year >= 100) | (hour >= 24) | (minute >= 60) | (second >= 60)  # noqa: PLR2004 — of a calendar
        | (month < 1) | (month > 12) | (day < 1) | (day > 31)  # noqa: PLR2004
        | (byte_at(at + 4) != U(ord("-"))) | (byte_at(at + 7) != U(ord("-"))) | (byte_at(at + 10) != U(ord("T")))
        | (byte_at(at + 13) != U(ord(":"))) | (byte_at(at + 16) != U(ord(":")))
    ):  # fmt: skip
        return 0, REFUSED
    year += 100 * century
    if year < 1 or day > _DAYS[month] or (month == 2 and day == 29 and (year % 4 or (year % 100 == 0 and year % 400))):  # noqa: PLR2004 — of a calendar
        return 0, REFUSED
    from_march = (month + 9) % 12
    year -= month <= 2  # noqa: PLR2004 — belongs to the year that began in March
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * from_march + 2) // 5 + day - 719469
    time = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000
    at += 19
    if byte_at(at) == U(ord(".")):
        scale = 100_000
        at += 1
        while is_digit(at) and scale:
            time += scale * np.int64(byte_at(at) - _ZERO)
            scale //= 10
            at += 1
        if scale == 100_000:  # noqa: PLR2004 — no digit
            return 0, REFUSED
    if byte_at(at) == U(ord("Z")):
        at += 1
    elif word_at(at) & _SIX == _UTC:
        at += 6
    else:
        return 0, REFUSED
    return (time, at + 1) if byte_at(at) == _QUOTE else (0, REFUSED)


@compiled
def text_time(at: int, fact: int) -> int:
    """Put down a time that is a text, the quote before which is passed; the address behind it."""
    microseconds, end = written_time(at)
    if end != REFUSED:
        put_integer(fact + 16, IS_TIME)
        put_integer(fact + 24, microseconds)
        return end
    end = text_end(at, _LAST_ASCII)
    put_integer(fact + 16, end - at)
    put_integer(fact + 24, at)
    return end if end == REFUSED else end + 1


@compiled
def epoch(at: int, fact: int) -> int:
    """Put down a time that is a number; the address behind it."""
    end = integer_end(at)
    if end != REFUSED:
        whole = 0
        for i in range(end - at):
            whole = whole * 10 + np.int64(byte_at(at + i) - _ZERO)
        put_integer(fact + 16, IS_INTEGER)
        put_integer(fact + 24, whole)
        return end
    value, end = rare_number(at)
    put_integer(fact + 16, IS_FLOAT)
    put_float(fact + 24, value)
    return end if is_fraction(at) else REFUSED


@compiled
def read(
    starts: NDArray[np.int64],
    tokens: NDArray[np.void],
    values: int,
    stride: int,
    facts: int,
    taken: NDArray[np.bool_],
) -> int:
    """Read the messages that look like the template; how many these are.

    Args:
        starts: addresses of the messages, and the one behind the last. Shape (n + 1,).
        tokens: the template; see the module ``tokens``.
        values: address of the float64 that the first target of the first message goes to.
        stride: bytes between two targets of one message; the messages that are taken lie side by side.
        facts: address of the table (n, 4) that receives what else is known of each message that is taken.
        taken: receives whether each message was taken. Shape (n,).
    """
    row = 0
    for message in range(len(taken)):
        at, place, fact, t = starts[message], values + 8 * row, facts + FACT_BYTES * row, 0
        while at != REFUSED:
            token = tokens[t]
            while not equal(at, token.literal, token.length):
                if not token.optional:
                    at = REFUSED
                    break
                if token.target >= 0:
                    put_float(place + token.target * stride, math.nan)
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
                put_float(place + token.target * stride, value)
            elif token.kind == CATEGORY:
                value, at = category(at, token)
                put_float(place + token.target * stride, value)
            elif token.kind == LENGTH:
                value = math.nan
                if byte_at(at) == _QUOTE:
                    size, at = text_size(at + 1)
                    value = float(size)
                else:
                    at = at + 4 if word_at(at) & _FOUR == _NULL else REFUSED
                put_float(place + token.target * stride, value)
            elif token.kind == UNREAD:
                at = value_end(at)
            elif token.kind == IDENTITY:
                at = identity(at, fact)
            elif token.kind == TIME and byte_at(at) == _QUOTE:
                at = text_time(at + 1, fact)
            elif token.kind == TIME or token.kind == EPOCH:  # noqa: PLR1714 — numba
                at = epoch(at, fact)
            else:
                break
            t += 1
        taken[message] = at == starts[message + 1]
        row += taken[message]
    return row
