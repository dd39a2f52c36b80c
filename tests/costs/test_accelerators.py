import datetime
from pathlib import Path

import pytest

from llmctl.costs.accelerators import accelerator, accelerators
from llmctl.costs.local import timed_machine
from llmctl.costs.prices import Prices
from llmctl.costs.tables import rows
from llmctl.errors import ConfigError


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("h100 sxm5", "H100-SXM-80GB"), ("A100", "A100-SXM-80GB"), ("a100_40gb", "A100-SXM-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM-80GB"), ("4090", "RTX 4090"), ("tpu v4", "TPUv4"),
        ("48GB-class", "RTX A6000"), ("H200-NVL", "H200-SXM-141GB"),
        ("v100 16gb", "V100-SXM2-16GB"),
    ],
)  # fmt: skip
def test_a_chip_is_found_as_people_write_it(said: str, meant: str):
    assert accelerator(said).name == meant


@pytest.mark.parametrize("name", accelerators())
def test_every_chip_is_found_by_its_own_name_and_has_a_dense_peak(name: str):
    chip = accelerator(name)

    assert not chip.is_generic
    assert 1e12 < chip.half_peak < 3e15


def test_the_peak_of_an_h100_is_the_dense_one():
    assert accelerator("H100").half_peak == 989e12


def test_a_generic_name_says_that_it_is_one():
    assert accelerator("A100").is_generic


@pytest.mark.parametrize("name", ["banana", "P100", "H100 sparse", ""])
def test_an_unknown_chip_is_refused(name: str):
    with pytest.raises(ConfigError):
        accelerator(name)


@pytest.mark.parametrize("row", rows("prices"), ids=lambda row: f"{row['item']} {row['date']}")
def test_every_price_has_an_order_a_date_and_a_source(row: dict[str, str]):
    assert 0 < float(row["low"]) <= float(row["mid"]) <= float(row["high"])
    assert int(row["date"][:4]) >= 2017
    assert row["source"]


def test_each_price_that_was_asked_for_and_is_older_than_half_a_year_is_told():
    prices = Prices()
    prices.rent(accelerator("H100-SXM-80GB"))
    prices.purchase(accelerator("B200-SXM"))

    assert prices.stale(datetime.date(2024, 12, 31)) == ""
    assert "buying B200-SXM (2024)" in prices.stale(datetime.date(2026, 11, 27))
    assert "renting H100" not in prices.stale(datetime.date(2026, 11, 27))
    assert "renting H100-SXM-80GB (2026-05)" in prices.stale(datetime.date(2026, 11, 28))


def test_a_slow_machine_costs_at_least_its_electricity():
    rent = Prices().rent(timed_machine(32e9)).quantity

    # 150 W at 0.10 USD a kWh.
    assert rent.mid == pytest.approx(0.015)


def test_a_price_list_of_ones_own_comes_first(tmp_path: Path):
    own = tmp_path / "own.csv"
    own.write_text(
        "kind,item,low,mid,high,unit,date,source\n"
        "rent,H100-SXM-80GB,1,1.5,2,USD/GPU-hour,2026-11-01,contract\n"
    )

    assert Prices(own).rent(accelerator("H100")).quantity.mid == 1.5


def test_a_price_list_that_makes_no_sense_is_refused(tmp_path: Path):
    own = tmp_path / "own.csv"
    own.write_text("kind,item,low,mid,high,unit,date,source\nrent,H100,3,2,1,USD,2026-01,x\n")

    with pytest.raises(ConfigError, match="line 2"):
        Prices(own)
