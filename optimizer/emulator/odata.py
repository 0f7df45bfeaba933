"""OData filters as Azure's list APIs take them: comparisons joined by and, or and brackets."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from optimizer.emulator.wire import Refusal

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<mark>[(),])|(?P<word>[^\s(),']+))""", re.VERBOSE
)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: bool(left == right),
    "ne": lambda left, right: bool(left != right),
    "gt": lambda left, right: bool(left > right),
    "ge": lambda left, right: bool(left >= right),
    "lt": lambda left, right: bool(left < right),
    "le": lambda left, right: bool(left <= right),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One name compared with one value."""

    name: str
    operator: str
    """eq, ne, gt, ge, lt, le or contains."""
    value: str

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row passes; a name it lacks is compared as None."""
        found = row.get(self.name)
        if self.operator == "contains":
            return self.value in str(found)
        if found is None and self.operator not in {"eq", "ne"}:
            return False
        return _COMPARE[self.operator](found if found is None else str(found), self.value)


@dataclass(frozen=True, slots=True)
class Joined:
    """Filters joined by `and` or by `or`."""

    word: str
    parts: tuple["Filter", ...]

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row passes."""
        results = (part.holds(row) for part in self.parts)
        return all(results) if self.word == "and" else any(results)


Filter: TypeAlias = Comparison | Joined


def parse_filter(text: str) -> Filter:
    """Return a filter, read with `and` binding closer than `or`; a wrong one is a 400."""
    reader = _Reader(_tokens(text), text)
    found = reader.joined("or")
    reader.end()
    return found


def comparisons(found: Filter) -> list[Comparison]:
    """Return every comparison of a filter, from left to right."""
    if isinstance(found, Comparison):
        return [found]
    return [each for part in found.parts for each in comparisons(part)]


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _invalid(text)
        tokens.append(match.group().strip())
        at = match.end()
    return tokens


def _invalid(text: str) -> Refusal:
    return Refusal(400, "BadRequest", f"The $filter expression '{text}' is not valid.")


class _Reader:
    def __init__(self, tokens: list[str], text: str) -> None:
        self._tokens = tokens[::-1]
        self._text = text

    def joined(self, word: str) -> Filter:
        parts = [self._part(word)]
        while self._tokens and self._tokens[-1].lower() == word:
            self._tokens.pop()
            parts.append(self._part(word))
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def end(self) -> None:
        if self._tokens:
            raise _invalid(self._text)

    def _part(self, word: str) -> Filter:
        return self.joined("and") if word == "or" else self._term()

    def _term(self) -> Filter:
        first = self._next()
        if first == "(":
            inside = self.joined("or")
            self._expect(")")
            return inside
        if first.lower() == "contains":
            self._expect("(")
            name = self._next()
            self._expect(",")
            value = self._next()
            self._expect(")")
            return Comparison(name, "contains", _literal(value))
        operator = self._next().lower()
        if operator not in _COMPARE:
            raise _invalid(self._text)
        return Comparison(first, operator, _literal(self._next()))

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise _invalid(self._text)

    def _next(self) -> str:
        if not self._tokens:
            raise _invalid(self._text)
        return self._tokens.pop()


def _literal(token: str) -> str:
    return token[1:-1].replace("''", "'") if token.startswith("'") else token
