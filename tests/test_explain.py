"""What would be seen of a feature, in its own unit: from the live state, and from a baseline alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from streamdrift.check import check
from streamdrift.errors import ConfigurationError
from streamdrift.explain_command import explain
from streamdrift.generator import MODEL_ID
from streamdrift.quantities import Rate
from streamdrift.settings import Settings
from streamdrift.tables import baseline_from_columns
from tests.test_inspection import Installation

HUNDRED = Rate.parse("100 per second")


def shop(directory: Path, rows: int, more: str = "") -> Settings:
    """A configured model with an amount of sd 20, of which 1 % is missing, and a country."""
    rng = np.random.default_rng(1)
    amount = np.where(np.arange(rows) % 100 == 0, np.nan, 40 + 20 * rng.normal(size=rows))
    columns = {"amount": amount, "country": rng.choice(["DE", "FR", "PL"], rows), "row": np.arange(rows)}
    baseline = baseline_from_columns(columns, model_id="shop", model_version="3")
    (directory / "shop-3.json").write_bytes(baseline.to_json())
    (directory / "c.yaml").write_text(
        'kafka: {bootstrap_servers: "localhost:9092"}\nsources: [{topic: predictions, kind: predictions}]\n'
        f'models: {{shop: {{baselines: {{"3": shop-3.json}}{more}}}}}\n',
        encoding="utf-8",
    )
    return Settings.load(directory / "c.yaml", environment={})


def test_a_baseline_is_explained_in_the_unit_of_the_feature_without_a_broker(tmp_path: Path) -> None:
    said = explain(shop(tmp_path, 100_000), "shop", "amount", traffic=HUNDRED).splitlines()
    assert said[0] == "shop 3, at 100 events a second, if its events are independent of each other:"
    assert said[1] == "amount: changes below PSI 0.02 never alarm: that is a mean shift of 0.14 sd (about 2.8)."
    assert re.fullmatch(
        r"  within a day: a mean shift of 0\.1[5-9] sd \(about 3\.\d\) would be seen, in about .* events", said[2]
    )
    assert re.fullmatch(r"  missing: from 1 % to 1\.[6-9] % would be seen; up to 1\.[56] % never alarms", said[3])
    assert said[-1] == "  compared with 100,000 values of the baseline"
    assert not [line for line in said if "unknown categories" in line], "numbers have none"


def test_categories_have_no_mean_that_could_shift(tmp_path: Path) -> None:
    said = explain(shop(tmp_path, 20_000), "shop", "country", traffic=HUNDRED)
    assert "country: changes below PSI 0.02 never alarm.\n" in said
    assert re.search(r"within a day: another mix of PSI 0\.0\d+ would be seen", said)
    assert "  unknown categories: from 0 % to " in said
    assert "usual range" not in said
    assert "sd" not in said


@pytest.mark.parametrize(
    ("traffic", "said"),
    [("1 per second", "1 event a second"), ("50 per day", "2.1 events an hour"), ("3 per week", "0.43 events a day")],
)
def test_traffic_is_said_in_a_period_that_has_some(tmp_path: Path, traffic: str, said: str) -> None:
    text = explain(shop(tmp_path, 2_000), "shop", "amount", traffic=Rate.parse(traffic))
    assert text.startswith(f"shop 3, at {said}, if ")


def test_more_traffic_a_larger_baseline_and_a_larger_budget_show_smaller_changes(tmp_path: Path) -> None:
    def smallest(rows: int, traffic: str, more: str = "") -> float:
        [shown] = json.loads(
            explain(shop(tmp_path, rows, more), "shop", "amount", traffic=Rate.parse(traffic), as_json=True)
        )
        assert shown["unit"] == pytest.approx(20, rel=0.1)
        return float(shown["shape"]["smallest_psi"])

    assert smallest(100_000, "100 per second") < smallest(2_000, "100 per second")
    assert smallest(20_000, "100 per second") < smallest(20_000, "500 per day")
    assert smallest(20_000, "1 per minute", ", false_alarms: 10 per day") < smallest(20_000, "1 per minute")
    assert smallest(20_000, "1 per second") < smallest(20_000, "1 per second", ", minimum_effect: 0.1")


def test_a_live_model_is_explained_as_it_is_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Installation(tmp_path, 8_000).patch(monkeypatch)
    [shown] = json.loads(explain(live.settings, MODEL_ID, "amount", as_json=True, cluster=live.cluster))
    model = live.driver.detect.models[MODEL_ID, "7"]
    assert shown["events_per_second"] == pytest.approx(
        model.events / model.ticks_closed / live.settings.time.tick.seconds
    )
    assert shown["calibrated"] == (model.state == "watching")
    assert shown["values"] >= 5_000
    assert {rate["detector"] for rate in shown["rates"]} >= {"missing_rate", "type_error_rate"}


def test_a_live_model_without_a_baseline_cannot_be_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Installation(tmp_path, 1_000).patch(monkeypatch)
    with pytest.raises(ConfigurationError, match="fraud 7 has no baseline yet; --traffic '100 per second' explains"):
        explain(live.settings, MODEL_ID, "amount", cluster=live.cluster)


@pytest.mark.parametrize(
    ("model", "feature", "version", "message"),
    [
        ("shop", "amuont", None, "shop 3 has no amuont; did you mean amount?"),
        ("shop", "row", None, "row of shop 3 is not watched: counter"),
        ("shop", "amount", "4", "no baseline of shop 4 is configured; there are those of shop 3"),
        ("shp", "amount", None, "no baseline of shp is configured; there are those of shop 3"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    tmp_path: Path, model: str, feature: str, version: str | None, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        explain(shop(tmp_path, 2_000), model, feature, version, traffic=HUNDRED)


def test_check_names_the_features_of_which_only_large_changes_would_be_seen(tmp_path: Path) -> None:
    shop(tmp_path, 500)
    said = {note.message for note in check(tmp_path / "c.yaml", environment={}).notes}
    assert any(re.match(r"amount has 500 values: even at 100 .*, a mean shift of 0\.\d+ sd \(about", m) for m in said)
    assert any(re.match(r"country has 500 values: even at 100 events .*, another mix of PSI 0", m) for m in said)
    shop(tmp_path, 20_000)
    assert not [m for m in check(tmp_path / "c.yaml", environment={}).notes if "values: even" in m.message]
