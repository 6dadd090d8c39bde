"""The settings of models: baselines, features, River detectors, and what comes later for them."""

# No `from __future__ import annotations`, as in `settings`.

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from streamdrift import sensitivity
from streamdrift.detectors.river import RiverSpec, validate
from streamdrift.outcome_grids import OutcomeGrid, Task
from streamdrift.performance_settings import Performance, Retraining
from streamdrift.quantities import Duration, Rate
from streamdrift.sensitivity_settings import Memories, MinimumEffect, Tolerance, Weight
from streamdrift.values import (
    LATER,
    NUMBER,
    AnyRate,
    Count,
    PositiveDuration,
    Scalar,
    Section,
    Segment,
    Text,
)

Finite = Annotated[float, Field(allow_inf_nan=False), NUMBER]


class River(Section):
    """A River detector by class name; further keys are its parameters."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    class_: Annotated[Text, Field(alias="class")]
    """The class's name under ``river``, for example drift.ADWIN."""
    alarm: bool = False
    """Whether a detection opens an incident of its own, rather than standing in one."""

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        validate(self.spec)
        return self

    @property
    def spec(self) -> RiverSpec:
        """The same as the detectors know it."""
        return RiverSpec(self.class_, self.model_extra or {}, self.alarm)


class Feature(Section):
    """What one feature has of its own."""

    weight: Weight = 1.0
    """Importance: its share of the budget of false alarms, next to the 1 of any other."""
    river: tuple[River, ...] = ()
    """River detectors that are fed its values."""


class Features(Section):
    """Which features are watched; further keys are features, under their flattened names."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Feature] = Field(init=False)

    include: tuple[Text, ...] = ("*",)
    """Globs of the names to watch."""
    exclude: tuple[Text, ...] = ()
    """Globs of the names to leave out; wins over ``include``."""

    @property
    def named(self) -> dict[str, Feature]:
        """The features that have settings of their own."""
        return dict(self.model_extra or {})

    def watches(self, *names: str) -> bool:
        """Whether the feature of this flattened name is watched; a derived column has that of its source as well."""
        return any(fnmatchcase(name, glob) for glob in self.include for name in names) and not any(
            fnmatchcase(name, glob) for glob in self.exclude for name in names
        )


class WarmUp(Section):
    """How much traffic says what is usual."""

    events: Count = 20_000
    """Events to count."""
    at_most: PositiveDuration = Duration.parse("7d")
    """Longest time to count."""
    at_least: Count = 200
    """Fewest events that are enough."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.at_least > self.events:
            raise ValueError(f"at_least is {self.at_least}, more than the {self.events} events of the whole warm-up")
        return self

    def known(self) -> sensitivity.WarmUp:
        """The same as the detectors know it."""
        return sensitivity.WarmUp(self.events, self.at_most.microseconds, self.at_least)


class Outcome(Section):
    """How predictions and labels of a model are counted: positive and negative, or classes, or range."""

    positive: Text | None = None
    """Of two classes the one that is looked for."""
    negative: Text | None = None
    """Of two classes the other."""
    threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NUMBER] = 0.5
    """Of two classes: the score from which on the positive one is predicted where a prediction names none."""
    classes: tuple[Text, ...] = ()
    """Three classes or more."""
    range: tuple[Finite, Finite] | None = None
    """Of a regression: about the lowest and the highest outcome."""

    @model_validator(mode="after")
    def _is_one_task(self) -> Self:
        two = self.positive is not None and self.negative is not None
        if (two, len(self.classes) > 0, self.range is not None).count(True) != 1 or (
            not two and {"positive", "negative", "threshold"} & self.model_fields_set
        ):
            raise ValueError("expected positive and negative, or classes, or range: [lowest, highest]")
        self.grid()
        return self

    def grid(self) -> OutcomeGrid:
        """The same as outcomes are counted. Raises ``ValueError`` for what cannot be."""
        if self.range is not None:
            return OutcomeGrid.regression(*self.range)
        if self.classes:
            return OutcomeGrid(Task.MULTICLASS, self.classes)
        return OutcomeGrid(Task.BINARY, (self.negative or "", self.positive or ""), self.threshold)


class Review(Section):
    """Predictions that people are asked to look at."""

    per_day: Count = 50
    """How many a day."""
    strategies: tuple[Literal["uncertain", "drifted", "random"], ...] = ("uncertain", "drifted", "random")
    """How they are chosen."""
    features: tuple[Text, ...] = ()
    """Features that a request carries beside the id."""


ADWIN: Final = River.model_validate({"class": "drift.ADWIN", "delta": 0.002})


class Defaults(Section):
    """What holds for every model that does not say otherwise."""

    false_alarms: AnyRate = Rate.parse("1 per month")
    """Expected false incidents of a model, over all its features, while nothing has changed; real drift is not
    limited."""
    minimum_effect: MinimumEffect = 0.02
    """PSI below which drift of a distribution never alarms: 0.01 is sensitive, 0.1 coarse."""
    tolerance: Tolerance = Tolerance()
    """By how much rates may be above the baseline's without an alarm."""
    memories: Memories = Memories()
    """How far back detectors look for a change."""
    warm_up: WarmUp = WarmUp()
    """How much traffic a learned baseline counts, and how much calibrates the detectors."""
    window: PositiveDuration = Duration.parse("1h")
    """Length of the window of published effects; it is extended to 1,000 events."""
    river: tuple[River, ...] = (ADWIN,)
    """River detectors that are fed the prediction's score."""


class Model(Section):
    """What one model has of its own."""

    baselines: dict[Text, Path] = Field(default_factory=dict)
    """File of the baseline of each version; relative to the configuration file."""
    features: Features = Features()
    """Which features are watched, and how."""
    window: PositiveDuration | None = None
    """As in ``defaults``."""
    river: tuple[River, ...] | None = None
    """As in ``defaults``; an empty list for none."""
    false_alarms: AnyRate | None = None
    """As in ``defaults``."""
    minimum_effect: MinimumEffect | None = None
    """As in ``defaults``."""
    tolerance: Tolerance | None = None
    """As in ``defaults``, key by key."""
    memories: Memories | None = None
    """As in ``defaults``, key by key."""
    warm_up: WarmUp | None = None
    """As in ``defaults``."""
    segments: Annotated[tuple[Segment, ...], LATER] = ()
    """Slices that are watched on their own."""
    outcome: Outcome | None = None
    """How outcomes are counted; null: as the baseline's table says, else as the first labels show."""
    performance: Performance | None = None
    """Metrics of predictions whose labels have arrived; null: the usual ones are reported where there are labels."""
    retraining: Retraining | None = None
    """Requests to train the model anew."""
    review: Annotated[Review | None, LATER] = None
    """Predictions that people are asked to look at."""
