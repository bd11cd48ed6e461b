"""Reads the GraphQL that clients send: operations, fields, fragments, arguments. No schema."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(
    r'(?P<skip>[\s,]+|\#[^\n]*)|(?P<text>"(?:\\.|[^"\\])*")|(?P<spread>\.\.\.)'
    r"|(?P<name>[A-Za-z_]\w*)|(?P<number>-?\d+(?:\.\d+)?)|(?P<mark>[{}()\[\]:!$@=])"
)


@dataclass(frozen=True)
class Field:
    """One field that is asked for."""

    name: str
    key: str  # under which the answer has it
    arguments: dict[str, Any]
    inside: list["Field"]


@dataclass
class Operation:
    """What one request asks for, its variables filled in."""

    kind: str = "query"  # or mutation
    name: str = ""
    fields: list[Field] = field(default_factory=list)


def read_operation(text: str, variables: dict[str, Any]) -> Operation:
    """The one operation of a request. ValueError for what is not understood."""
    return _Reader(text, variables).operation()


class _Reader:
    def __init__(self, text: str, variables: dict[str, Any]) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            match = TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"not GraphQL: {text[at : at + 20]!r}")
            at, kind = match.end(), str(match.lastgroup)
            if kind != "skip":
                self._tokens.append((kind, match[0]))
        self._at = 0
        self._variables = dict(variables)
        self._fragments: dict[str, int] = {}  # where their fields begin

    def operation(self) -> Operation:
        operation, begin = Operation(), -1
        while self._at < len(self._tokens):
            if self._next() == "{":
                self._at -= 1
                begin = self._at
                self._skip_block()
                continue
            word = self._last()
            name = self._next() if self._peek() not in "({" else ""
            if word == "fragment":
                self._expect("on")
                self._next()
                self._fragments[name] = self._at
            else:
                operation.kind, operation.name = word, name
                if self._peek() == "(":
                    self._read_defaults()
                begin = self._at
            self._skip_block()
        self._at = begin
        operation.fields = self._fields()
        return operation

    def _fields(self) -> list[Field]:
        self._expect("{")
        found: list[Field] = []
        while self._peek() != "}":
            if self._peek() == "...":
                found += self._spread()
                continue
            key = name = self._next()
            if self._peek() == ":":
                self._next()
                name = self._next()
            arguments = self._arguments() if self._peek() == "(" else {}
            wanted = self._wanted()
            inside = self._fields() if self._peek() == "{" else []
            if wanted:
                found.append(Field(name, key, arguments, inside))
        self._expect("}")
        return found

    def _spread(self) -> list[Field]:
        self._expect("...")
        if self._peek() in ("on", "{", "@"):
            if self._peek() == "on":
                self._at += 2
            wanted = self._wanted()
            inside = self._fields()
            return inside if wanted else []
        name = self._next()
        wanted, here = self._wanted(), self._at
        self._at = self._fragments[name]
        inside = self._fields()
        self._at = here
        return inside if wanted else []

    def _wanted(self) -> bool:
        wanted = True
        while self._peek() == "@":
            self._next()
            directive = self._next()
            condition = self._arguments()["if"]
            wanted = wanted and (bool(condition) if directive == "include" else not condition)
        return wanted

    def _arguments(self) -> dict[str, Any]:
        self._expect("(")
        return self._pairs(")")

    def _pairs(self, end: str) -> dict[str, Any]:
        found = {}
        while self._peek() != end:
            name = self._next()
            self._expect(":")
            found[name] = self._value()
        self._next()
        return found

    def _value(self) -> Any:
        token = self._next()
        if token == "$":
            return self._variables.get(self._next())
        if token == "{":
            return self._pairs("}")
        if token == "[":
            items = []
            while self._peek() != "]":
                items.append(self._value())
            self._next()
            return items
        kind = self._tokens[self._at - 1][0]
        return json.loads(token) if kind != "name" or token in ("true", "false", "null") else token

    def _read_defaults(self) -> None:
        self._expect("(")
        while self._peek() != ")":
            self._expect("$")
            name = self._next()
            self._expect(":")
            while self._peek() in "[]!" or self._tokens[self._at][0] == "name":
                self._next()
            if self._peek() == "=":
                self._next()
                default = self._value()
                self._variables.setdefault(name, default)
        self._next()

    def _skip_block(self) -> None:
        depth = 0
        while True:
            depth += {"{": 1, "}": -1}.get(self._next(), 0)
            if depth == 0:
                return

    def _peek(self) -> str:
        return self._tokens[self._at][1]

    def _last(self) -> str:
        return self._tokens[self._at - 1][1]

    def _next(self) -> str:
        self._at += 1
        return self._last()

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise ValueError(f"expected {token!r}, got {self._last()!r}")
