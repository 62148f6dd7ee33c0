"""Valid messages of odd content, for any type: made up field by field, or real ones in which a few fields are odd."""

import array
import copy
import importlib
import json
import re

import numpy as np

TEXTS = (
    "",
    "\x1b[2J\x1b[31mfault\x1b[0m",
    "a\n[ERROR] [1.0] [maskact.action_publisher]: forged",
    "\u202eelbow\u2066",
    "x" * 3000,
    "関節\U0001f9be" * 50,
    "nan",
    "-1",
    "9" * 400,
    "~nobody/\\..",
    "[" * 5000,
    "<!DOCTYPE r [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;'>]><r>&b;</r>",
    "<robot/>",
    "16UC1; png compressed",
    "maskact_features 999999 999999 mask x 9999999999999999999",
    "{}",
    "[]",
    '{"rung": [], "epoch": 1e400, "reason": {}}',
    '{"rung": "following", "epoch": -1, "reason": "\\u001b[2J"}',
    '{"node": "inference", "swap": "soon", "phase": "loading", "path": "/", "reason": ""}',
    '{"node": "x", "swap": "99999999999999999999-x", "phase": "ready", "path": "\\ud800", "reason": ""}',
    '{"node": "inference", "swap": "", "phase": "running", "path": "a\\u0000b", "reason": ""}',
    "00000000000000000000 " + "0" * 32,
)
NUMBERS = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e9, -1.0, 0.5)
LENGTHS = (0, 1, 2, 7, 300, 5000)
VALUES = (None, True, -1, 10**30, 1e308, "", "\x1b[2J", [], {}, [[[]]])
_SEQUENCE = re.compile(r"sequence<(.+?)(?:, \d+)?>")
_ARRAY = re.compile(r"(.+)\[(\d+)\]")
_CODES = {"double": "d", "float": "f", "uint8": "B", "octet": "B", "int8": "b"}


def message_type(name: str) -> type:
    """Of a name such as std_msgs/msg/String."""
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


class Odd:
    """Makes them; all chance comes from `random`."""

    def __init__(self, random: np.random.Generator):
        self._random = random

    def message(self, kind: type, *, deep: bool = False):
        """One in which each field is odd; lists in lists are short."""
        made = kind()
        for name, field in kind.get_fields_and_field_types().items():
            setattr(made, name, self._value(field, deep=deep))
        return made

    def altered(self, message):
        """A copy with one to three odd fields."""
        altered = copy.deepcopy(message)
        for _ in range(self._random.integers(1, 4)):
            self._alter(altered)
        return altered

    def _alter(self, message) -> None:
        fields = message.get_fields_and_field_types()
        if not fields:
            return
        name = str(self._random.choice(list(fields)))
        value, field = getattr(message, name), fields[name]
        if hasattr(value, "get_fields_and_field_types"):
            self._alter(value)
        elif isinstance(value, list) and value and hasattr(value[0], "get_fields_and_field_types"):
            self._alter(value[self._random.integers(len(value))])
        elif isinstance(value, str) and value[:1] == "{" and self._random.random() < 0.7:
            setattr(message, name, self._json(value))
        elif isinstance(value, (list, array.array)) and len(value) and self._random.random() < 0.7:
            at = self._random.integers(len(value))
            value[at] = self._value(_SEQUENCE.fullmatch(field)[1], deep=True)
        else:
            setattr(message, name, self._value(field, deep=False))

    def _json(self, text: str) -> str:
        try:
            values = json.loads(text)
        except ValueError:
            values = {}
        if not values:
            return self._pick(TEXTS)
        key = str(self._random.choice(list(values)))
        if self._random.random() < 0.2:
            del values[key]
        else:
            values[key] = self._pick((*VALUES, *TEXTS))
        return json.dumps(values)

    def _value(self, field: str, *, deep: bool):
        if found := _SEQUENCE.fullmatch(field) or _ARRAY.fullmatch(field):
            most = 3 if deep else LENGTHS[-1]
            length = int(found[2]) if found.re is _ARRAY else min(most, self._pick(LENGTHS))
            if (code := _CODES.get(found[1])) is not None:
                # One number many times: a message of many is not to take its sender the time.
                return array.array(code, [self._value(found[1], deep=True)]) * length
            one = [self._value(found[1], deep=True) for _ in range(min(length, 7))]
            return (one * (1 + length // max(1, len(one))))[:length]
        if field in ("float", "double"):
            number = self._pick(NUMBERS)
            return float(np.clip(number, -3e38, 3e38)) if field == "float" and np.isfinite(number) else number
        if field == "boolean":
            return bool(self._random.integers(2))
        if field in ("octet", "uint8") or (whole := re.fullmatch(r"(u?)int(\d+)", field)) is None:
            if "string" in field:
                return self._pick(TEXTS)
            if field in ("octet", "uint8"):
                return int(self._random.integers(256))
            return self.message(message_type(field.replace("/", "/msg/", 1)), deep=deep)
        bits = int(whole[2])
        low, high = (0, 2**bits - 1) if whole[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return self._pick((low, high, 0, 1, high // 2, min(high, 1_000_000_000)))

    def _pick(self, options):
        return options[self._random.integers(len(options))]
