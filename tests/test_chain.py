from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.store.chain import Entry, canonical, check

WORDS = st.text(max_size=8)


@st.composite
def chains(draw: st.DrawFn) -> list[Entry]:
    """Draw one to eight entries that follow one another."""
    entries: list[Entry] = []
    for _ in range(draw(st.integers(1, 8))):
        entry = Entry.after(
            entries[-1] if entries else None,
            kind=draw(WORDS),
            subject=draw(WORDS),
            who=draw(WORDS),
            at_utc=draw(st.none() | WORDS),
            document=canonical(draw(WORDS)),
        )
        entries.append(entry)
    return entries


def chain_of(*subjects: str) -> list[Entry]:
    entries: list[Entry] = []
    for subject in subjects:
        last = entries[-1] if entries else None
        entries.append(
            Entry.after(last, kind="k", subject=subject, who="ana", at_utc=None, document="{}")
        )
    return entries


def first_misfit(entries: Sequence[Entry]) -> tuple[int, str | None]:
    """Return how many entries fit, and what is wrong with the next."""
    found = check(entries)
    return found.entries, found.misfit


@given(chains())
def test_what_was_written_fits(entries: list[Entry]) -> None:
    found = check(entries)
    assert (found.entries, found.head, found.misfit) == (len(entries), entries[-1].hash, None)


@given(
    chains(), st.data(), st.sampled_from(["kind", "subject", "who", "at_utc", "document", "hash"])
)
def test_any_change_of_any_entry_is_found_there(
    entries: list[Entry], data: st.DataObject, name: str
) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    old = getattr(entries[place], name)
    new = data.draw(WORDS.filter(lambda text: text != old))
    entries[place] = replace(entries[place], **{name: new})  # type: ignore[arg-type]
    misfit = f"entry {place + 1} is not as it was written in this place"
    assert first_misfit(entries) == (place, misfit)


@given(chains().filter(lambda entries: len(entries) > 1), st.data())
def test_an_entry_that_is_missing_is_named(entries: list[Entry], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(entries) - 2))
    del entries[place]
    assert first_misfit(entries) == (place, f"entry {place + 1} is missing")


def test_a_changed_entry_whose_hash_was_made_anew_is_betrayed_by_the_next() -> None:
    one, two, three = chain_of("a", "b", "c")
    forged = Entry.after(one, kind="k", subject="B", who="ana", at_utc=None, document="{}")
    misfit = "entry 3 is not as it was written in this place"
    assert first_misfit([one, forged, three]) == (2, misfit)
    assert forged.number == two.number


def test_words_cannot_move_from_one_column_to_the_next() -> None:
    (entry,) = chain_of("ab")
    moved = replace(entry, kind=entry.kind + "a", subject="b")
    assert first_misfit([moved]) == (0, "entry 1 is not as it was written in this place")


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_missing_tail_is_told_by_a_head_that_was_noted_and_by_nothing_else(left: int) -> None:
    entries = chain_of("a", "b", "c")
    assert first_misfit(entries[:left]) == (left, None)
    noted = entries[-1].hash
    assert check(entries[:left], noted_head=noted).misfit == (
        f"no entry has the hash {noted}: entries at the end are missing, or all were written anew"
    )


def test_a_head_that_was_noted_may_have_entries_after_it() -> None:
    entries = chain_of("a", "b", "c")
    assert check(entries, noted_head=entries[0].hash).misfit is None


def test_a_history_written_anew_is_told_by_a_head_that_was_noted() -> None:
    noted = chain_of("a", "b")[-1].hash
    assert check(chain_of("a", "x", "c")).misfit is None
    assert check(chain_of("a", "x", "c"), noted_head=noted).misfit is not None


def test_nothing_is_a_chain_too() -> None:
    assert (check([]).entries, check([]).head, check([]).misfit) == (0, "", None)
