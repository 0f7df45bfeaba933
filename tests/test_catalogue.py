"""Sizes and list prices that come with the product."""

from collections import Counter
from datetime import date

import duckdb
import pandas as pd
import pytest

from optimizer.catalogue import Catalogue, ListPrice, Size, snapshot, vm_family
from tests.recorded import SHARED

SNAPSHOT = snapshot()
JOINED = SHARED / "data/prices/azure_catalogue_joined.parquet"
COLUMNS = {
    ("payg", ""): ("payg_2026_08", "payg_2026_06"),
    ("low_priority", ""): ("low_priority_2026_08",),
    ("spot", ""): ("spot_2026_08", "spot_2026_01"),
    ("reservation", "1y"): ("ri_1y_2026_01",),
    ("reservation", "3y"): ("ri_3y_2026_01",),
    ("savings_plan", "1y"): ("sp_1y_2026_08", "sp_1y_2026_01"),
    ("savings_plan", "3y"): ("sp_3y_2026_01",),
}


def of(offer: str, term: str = "") -> dict[tuple[str, str], float]:
    """Prices of one offer by region and size."""
    return {
        (region, sku): price.per_hour
        for (region, sku, *what), price in SNAPSHOT.prices.items()
        if what == [offer, term]
    }


# The snapshot


def test_at_least_120_sizes_have_a_price_in_8_regions() -> None:
    regions = Counter(sku for _, sku in of("payg"))
    assert sum(number >= 8 for number in regions.values()) >= 120
    assert len({region for region, _ in of("payg")}) >= 8


def test_every_price_is_of_a_size_that_we_know_and_none_is_free() -> None:
    assert {sku for _, sku, _, _ in SNAPSHOT.prices} == set(SNAPSHOT.sizes)
    assert all(price.per_hour > 0 for price in SNAPSHOT.prices.values())
    assert {key[:2] for key in SNAPSHOT.prices} == set(of("payg"))


def test_every_price_says_of_when_it_is() -> None:
    days = {price.as_of for price in SNAPSHOT.prices.values()}
    assert days == {date(2026, 1, 26), date(2026, 6, 1), date(2026, 8, 22)}


@pytest.mark.parametrize(
    ("dearer", "cheaper"),
    [
        (("payg",), ("low_priority",)),
        (("payg",), ("reservation", "1y")),
        (("reservation", "1y"), ("reservation", "3y")),
        (("payg",), ("savings_plan", "1y")),
        (("savings_plan", "1y"), ("savings_plan", "3y")),
    ],
)
def test_who_commits_or_takes_what_is_left_pays_less(
    dearer: tuple[str, ...], cheaper: tuple[str, ...]
) -> None:
    more, less = of(*dearer), of(*cheaper)
    assert len(less) > 100
    assert [pair for pair, price in less.items() if price >= more[pair]] == []


def test_gpus_are_where_azure_names_them_and_nowhere_else() -> None:
    for size in SNAPSHOT.sizes.values():
        has_gpu = size.sku.startswith("Standard_N")
        assert (size.gpus > 0) == has_gpu, size
        assert (size.gpu_model is not None) == has_gpu, size
        assert ((size.gpu_memory_gib or 0) >= 4) == has_gpu, size
        assert size.vcpus > 0
        assert size.memory_gib > 0


@pytest.mark.parametrize(
    ("sku", "vcpus", "memory_gib", "gpus", "gpu_memory_gib"),
    [
        ("Standard_DS3_v2", 4, 14, 0, None),
        ("Standard_NC4as_T4_v3", 4, 28, 1, 16),
        ("Standard_NV6ads_A10_v5", 6, 55, 1 / 6, 4),
        ("Standard_ND40rs_v2", 40, 672, 8, 32),
        ("standard_nd96asr_v4", 96, 900, 8, 40),
        ("Standard_ND96isr_H100_v5", 96, 1900, 8, 80),
    ],
)
def test_what_a_size_has(
    sku: str, vcpus: int, memory_gib: float, gpus: float, gpu_memory_gib: float | None
) -> None:
    size = SNAPSHOT.size(sku)
    assert size is not None
    assert (size.vcpus, size.memory_gib, size.gpu_memory_gib) == (vcpus, memory_gib, gpu_memory_gib)
    assert size.gpus == pytest.approx(gpus, abs=1e-3)


def test_every_figure_is_the_one_that_was_published() -> None:
    if not JOINED.exists():
        pytest.skip("the published prices are not at hand")
    rows = duckdb.execute("SELECT * FROM read_parquet($1)", [str(JOINED)]).df()
    published = {
        (row["region"], row["arm_sku"].lower()): row
        for row in rows[rows["region"].isin({key[0] for key in SNAPSHOT.prices})].to_dict("records")
    }
    for (region, sku, offer, term), price in SNAPSHOT.prices.items():
        row, size = published[region, sku], SNAPSHOT.sizes[sku]
        known = [row[name] for name in COLUMNS[offer, term] if pd.notna(row[name])]
        assert price.per_hour == pytest.approx(known[0], rel=1e-5)
        assert (size.vcpus, size.memory_gib) == (row["vcpu"], row["memory_gib"])


def test_the_generation_of_a_size_is_the_version_in_its_name() -> None:
    names = ("Standard_NC24ads_A100_v4", "Standard_DS3_v2", "Standard_M64ms")
    assert [SNAPSHOT.sizes[name.lower()].generation for name in names] == [4, 2, 1]


# What a catalogue answers

SMALL = Size(
    sku="Standard_D2_v3", vcpus=2, memory_gib=8, gpus=0, gpu_model=None, gpu_memory_gib=None
)
LARGE = Size(
    sku="Standard_D4_v3", vcpus=4, memory_gib=16, gpus=0, gpu_model=None, gpu_memory_gib=None
)
OTHER = Size(
    sku="Standard_E2_v3", vcpus=2, memory_gib=16, gpus=0, gpu_model=None, gpu_memory_gib=None
)
JUNE, AUGUST = date(2026, 6, 1), date(2026, 8, 1)


def listed(per_hour: float, as_of: date = JUNE) -> ListPrice:
    return ListPrice(per_hour=per_hour, as_of=as_of)


OURS = Catalogue(
    currency="USD",
    sizes={size.sku.lower(): size for size in (LARGE, SMALL, OTHER)},
    prices={
        ("eastus", "standard_d2_v3", "payg", ""): listed(0.1),
        ("eastus", "standard_d2_v3", "spot", ""): listed(0.05),
        ("eastus", "standard_d4_v3", "payg", ""): listed(0.2),
        ("eastus", "standard_e2_v3", "payg", ""): listed(0.13),
        ("westus2", "standard_e2_v3", "payg", ""): listed(0.14),
    },
)


def test_what_a_region_sells_cheapest_first() -> None:
    assert OURS.sold_in("eastus") == (SMALL, OTHER, LARGE)
    assert OURS.sold_in("eastus", family=LARGE.family) == (SMALL, LARGE)
    assert OURS.sold_in("westus2") == (OTHER,)
    assert OURS.sold_in("nowhere") == ()


def test_an_unknown_price_or_size_is_none() -> None:
    assert OURS.price("eastus", "Standard_D2_v3") == listed(0.1)
    assert OURS.price("eastus", "Standard_D2_v3", "reservation", "1y") is None
    assert OURS.size("Standard_Odd") is None


def test_what_azure_told_of_a_size_replaces_all_that_we_knew_of_it() -> None:
    told = {("eastus", "standard_d2_v3", "payg", ""): listed(0.09, AUGUST)}
    now = OURS.overlaid(told, currency="USD")
    assert now.price("eastus", "Standard_D2_v3") == listed(0.09, AUGUST)
    assert now.price("eastus", "Standard_D2_v3", "spot") is None
    assert now.price("eastus", "Standard_D4_v3") == listed(0.2)


def test_no_price_is_converted() -> None:
    told = {("eastus", "standard_d2_v3", "payg", ""): listed(0.08, AUGUST)}
    now = OURS.overlaid(told, currency="EUR")
    assert (now.currency, now.prices) == ("EUR", told)


@pytest.mark.parametrize(
    ("sku", "family"),
    [
        ("Standard_D4s_v5", "ds_v5"),
        ("Standard_E16-4s_v5", "es_v5"),
        ("Standard_NV36ads_A10_v5", "nvads_a10_v5"),
        ("Standard_M128ms", "mms"),
        ("odd", "odd"),
    ],
)
def test_sizes_of_a_family_share_its_name(sku: str, family: str) -> None:
    assert vm_family(sku) == family
