"""What detect shows of a model whose labels have arrived, for whatever presents it."""

from __future__ import annotations

import numpy as np

from streamdrift.comparison import Compared
from streamdrift.metrics import Estimate
from streamdrift.outcome_status import OutcomeStatus, RetrainingStatus
from streamdrift.performance import PerformanceConfig, Target, Windows
from streamdrift.status import IncidentStatus
from streamdrift.summaries.coverage import Coverage, Fate
from streamdrift.summaries.outcomes import LabelRows, Outcomes
from tests.support.outcomes import BINARY

DAY_US = 86_400_000_000
HOUR_US = DAY_US // 24
TARGETS = (Target("accuracy", 0.9, 0.02), Target("recall", None), Target("roc_auc", 0.8))
CONFIG = PerformanceConfig(DAY_US, 7 * DAY_US, 100, TARGETS)


def counted(right: int, wrong: int) -> Outcomes:
    """So many right and wrong predictions of fraud; without scores."""
    true = ["fraud"] * (right + wrong)
    return Outcomes.of(LabelRows.of(BINARY, true, ["fraud"] * right + ["legit"] * wrong))


def coverage(predicted: int, labelled: int, **others: int) -> Coverage:
    """So many predictions, of which some are labelled within an hour each."""
    fates = {Fate[name.upper()]: n for name, n in others.items()}
    counts = {Fate.PREDICTED: predicted, Fate.LABELLED: labelled, **fates}
    return Coverage.of(counts, np.full(labelled, HOUR_US, dtype=np.int64))


WINDOWS = Windows(
    CONFIG,
    (
        (12, counted(5, 0), coverage(300, 5), False),
        (11, counted(180, 20), coverage(400, 200), False),
        (3, counted(780, 220), coverage(1_250, 1_000), True),
    ),
)
"""One with too few labels, one that is open, and one that has closed."""

OUTCOMES = OutcomeStatus(
    "fraud",
    "7",
    BINARY,
    DAY_US,
    TARGETS,
    WINDOWS,
    coverage(2_000, 1_205, expired=300, sampled_out=45, revised=7, duplicate=3),
    last_label_us=12 * DAY_US,
    late=11,
    incidents=(
        IncidentStatus("p1", "performance", "critical", "started", "accuracy 0.78, 0.12 worse than 0.9", (), 1),
    ),
    alerts={("performance", "critical"): 1},
)
RETRAINING = RetrainingStatus(
    "fraud",
    "7",
    "6",
    "5f3c1b9a7d20e486",
    1_205,
    {"decay": "a request is open"},
    {"decay": 1, "weekly": 0},
    [Compared("accuracy", Estimate(0.9, 0.0095, 1_000), Estimate(0.78, 0.0131, 1_000))],
)
