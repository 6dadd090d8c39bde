"""Card payments: what a fraud model sees of them, and how likely each is fraud.

Two hidden traits of the customer run through the features and make them correlate: *risk* (hurried, far from
home, new device) and *tenure* (old customer, old account, many orders). Numeric features are functions of a
standard normal each; a few of these swing mildly over the day.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from streamdrift.generator.pace import daily_wave

Columns = dict[str, NDArray[np.float64]]
"""Columns by name: numbers, or numbers of categories (0 and 1: false and true); NaN: no value. Shapes (n,)."""

SEASON: Final = MappingProxyType({"amount": (0.15, 20.0), "session.duration_s": (0.15, 21.0), "ip_risk": (0.15, 3.0)})
"""Daily swing in standard deviations, and the hour of its peak. Mild: at most 0.25."""

REGIONS: Final = ("eu", "us", "apac")
REGION_SHARES: Final = (0.4, 0.35, 0.25)

_COUNTRIES: Final = {
    "eu": {"DE": 0.25, "FR": 0.2, "ES": 0.15, "IT": 0.15, "NL": 0.1, "PL": 0.1, "SE": 0.05},
    "us": {"US": 0.8, "CA": 0.15, "MX": 0.05},
    "apac": {"JP": 0.35, "IN": 0.25, "AU": 0.2, "SG": 0.1, "KR": 0.1},
}
_COUNTRY_SHARES: Final = {
    country: share * given
    for region, share in zip(REGIONS, REGION_SHARES, strict=True)
    for country, given in _COUNTRIES[region].items()
}
_REGION_OF_COUNTRY: Final = np.array([i for i, region in enumerate(REGIONS) for _ in _COUNTRIES[region]])

_SHARES: Final = {
    "country": _COUNTRY_SHARES,
    "merchant_category": {
        "grocery": 0.22, "restaurant": 0.15, "fuel": 0.1, "clothing": 0.12, "electronics": 0.09, "travel": 0.07,
        "pharmacy": 0.06, "gaming": 0.05, "jewelry": 0.02, "gift_cards": 0.03, "utilities": 0.06, "other": 0.03,
    },
    "channel": {"web": 0.38, "app": 0.42, "in_store": 0.17, "phone": 0.03},
    "card.type": {"debit": 0.45, "credit": 0.43, "prepaid": 0.08, "virtual": 0.04},
    "device.os": {"ios": 0.33, "android": 0.38, "windows": 0.18, "macos": 0.08, "linux": 0.03},
    "email_domain": {
        "gmail.com": 0.46, "outlook.com": 0.14, "yahoo.com": 0.11, "icloud.com": 0.12, "proton.me": 0.04,
        "company": 0.13,
    },
}  # fmt: skip

CATEGORIES: Final = MappingProxyType({name: tuple(shares) for name, shares in _SHARES.items()})
"""Category names of each categorical column, by category number."""
BOOLEANS: Final = frozenset({"is_guest", "strong_authentication", "billing_matches_shipping"})
INTEGERS: Final = frozenset(
    {
        "customer_age", "account.age_days", "account.orders_90d", "account.chargebacks", "velocity.count_1h",
        "velocity.count_24h", "basket.items", "device.age_days",
    }
)  # fmt: skip
DECIMALS: Final = 3
"""Digits that other numbers are published with."""

MISSING_SHARES: Final = MappingProxyType(
    {"device.age_days": 0.01, "distance_km": 0.02, "session.typing_speed": 0.05, "billing_matches_shipping": 0.03}
)
"""Share of events in which a nullable column is null."""

_LOADS: Final = {  # how much of each standard normal comes from (risk, tenure); the rest is its own
    "amount": (0.25, 0.1),
    "customer_age": (-0.1, 0.5),
    "account.age_days": (-0.3, 0.6),
    "account.orders_90d": (0.0, 0.5),
    "velocity": (0.5, 0.0),
    "velocity.amount_24h": (0.4, 0.1),
    "distance_km": (0.4, -0.1),
    "ip_risk": (0.5, 0.0),
    "basket.items": (0.1, 0.1),
    "session.duration_s": (-0.2, 0.0),
    "device.age_days": (-0.1, 0.3),
    "session.typing_speed": (0.1, 0.0),
}

_BASE_LOGIT: Final = -4.6
_LOGITS: Final = {  # effect on the log odds of fraud of one standard deviation
    "amount": 0.8,
    "account.age_days": -0.5,
    "velocity": 0.6,
    "velocity.amount_24h": 0.2,
    "distance_km": 0.4,
    "ip_risk": 0.6,
    "customer_age": 0.1,
    "session.duration_s": -0.03,
    "session.typing_speed": 0.05,
}
_CATEGORY_LOGITS: Final = {
    ("merchant_category", "gift_cards"): 1.4,
    ("merchant_category", "electronics"): 0.6,
    ("merchant_category", "jewelry"): 0.9,
    ("merchant_category", "grocery"): -0.6,
    ("channel", "in_store"): -0.8,
    ("channel", "phone"): 0.7,
    ("card.type", "prepaid"): 0.8,
    ("card.type", "virtual"): 0.4,
    ("email_domain", "proton.me"): 0.3,
    ("country", "MX"): 0.4,
}
_FLAG_LOGITS: Final = {"is_guest": 0.7, "strong_authentication": -0.9}


@dataclass(frozen=True, slots=True)
class Payments:
    """What really happened: complete and correct, before any pipeline had its hands on it."""

    times_us: NDArray[np.int64]
    columns: Columns
    region: NDArray[np.int64]
    """Index into ``REGIONS``. Shape (n,)."""
    normals: Columns
    """The standard normals behind the numeric columns; ``velocity`` stands behind both counts."""
    fraud_logits: NDArray[np.float64]
    """Log odds of fraud. Shape (n,)."""

    def __len__(self) -> int:
        return len(self.times_us)


def draw(rng: Generator, times_us: NDArray[np.int64]) -> Payments:
    """Payments at the given times. Shape (n,)."""
    normals = _normals(rng, times_us)
    columns = _numeric(rng, normals)
    columns.update(_categorical(rng, len(times_us)))
    columns.update(_flags(rng, normals))
    region = _REGION_OF_COUNTRY[columns["country"].astype(np.int64)]
    return Payments(times_us, columns, region, normals, _fraud_logits(columns, normals))


def lose(rng: Generator, columns: Columns) -> None:
    """Make the nullable columns null where their value did not arrive, in place."""
    for name, share in MISSING_SHARES.items():
        columns[name][rng.random(len(columns[name])) < share] = np.nan


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of log odds. Shape (n,)."""
    return 1 / (1 + np.exp(-logits))


def _normals(rng: Generator, times_us: NDArray[np.int64]) -> Columns:
    risk, tenure, *own = rng.standard_normal((2 + len(_LOADS), len(times_us)))
    normals: Columns = {}
    for (name, (of_risk, of_tenure)), rest in zip(_LOADS.items(), own, strict=True):
        normals[name] = of_risk * risk + of_tenure * tenure + np.sqrt(1 - of_risk**2 - of_tenure**2) * rest
    for name, (swing, peak_hour) in SEASON.items():
        normals[name] += swing * daily_wave(times_us, peak_hour)
    return normals


def _numeric(rng: Generator, z: Columns) -> Columns:
    hour = rng.poisson(np.exp(-0.9 + 0.6 * z["velocity"]))
    discounted = rng.random(len(hour)) < 0.3  # noqa: PLR2004 — the share of baskets with a discount
    columns: dict[str, NDArray[Any]] = {
        "amount": np.round(np.exp(3.5 + 0.9 * z["amount"]), 2),
        "customer_age": np.clip(43 + 14 * z["customer_age"], 18, 95),
        "account.age_days": np.exp(5.8 + 1.1 * z["account.age_days"]),
        "account.orders_90d": rng.poisson(np.exp(1.4 + 0.6 * z["account.orders_90d"])),
        "account.chargebacks": np.minimum(rng.poisson(0.08, len(hour)), 3),
        "velocity.count_1h": hour,
        "velocity.count_24h": hour + rng.poisson(np.exp(0.8 + 0.6 * z["velocity"])),
        "velocity.amount_24h": np.exp(4.4 + 1.0 * z["velocity.amount_24h"]),
        "distance_km": np.exp(2.2 + 1.4 * z["distance_km"]),
        "ip_risk": sigmoid(-1.8 + 1.1 * z["ip_risk"]),
        "basket.items": 1 + rng.poisson(np.exp(0.9 + 0.5 * z["basket.items"])),
        "basket.discount": np.where(discounted, rng.uniform(0.05, 0.5, len(hour)), 0.0),
        "session.duration_s": np.exp(5.0 + 0.8 * z["session.duration_s"]),
        "session.typing_speed": 4.5 + 1.2 * z["session.typing_speed"],
        "device.age_days": np.exp(5.5 + 0.9 * z["device.age_days"]),
    }
    return {name: values.astype(np.float64) for name, values in columns.items()}


def _categorical(rng: Generator, n: int) -> Columns:
    uniform = rng.random((len(_SHARES), n))
    return {
        name: np.searchsorted(np.cumsum(list(shares.values()))[:-1], u, side="right").astype(np.float64)
        for (name, shares), u in zip(_SHARES.items(), uniform, strict=True)
    }


def _flags(rng: Generator, z: Columns) -> Columns:
    guest, strong, matches = rng.random((3, len(z["amount"])))
    return {
        "is_guest": (guest < sigmoid(-1.2 - 0.8 * z["account.age_days"])).astype(np.float64),
        "strong_authentication": (strong < sigmoid(0.4 + 0.5 * z["amount"])).astype(np.float64),
        "billing_matches_shipping": (matches < sigmoid(1.5 - 0.5 * z["distance_km"])).astype(np.float64),
    }


def _fraud_logits(columns: Columns, z: Columns) -> NDArray[np.float64]:
    logits = np.full(len(z["amount"]), _BASE_LOGIT)
    for name, weight in _LOGITS.items():
        logits += weight * z[name]
    for (name, category), weight in _CATEGORY_LOGITS.items():
        logits += weight * (columns[name] == CATEGORIES[name].index(category))
    for name, weight in _FLAG_LOGITS.items():
        logits += weight * columns[name]
    # No linear model can express this one, so that the classifier is good and not perfect.
    logits += 0.3 * np.maximum(z["amount"], 0) * np.maximum(z["distance_km"], 0)
    return logits
