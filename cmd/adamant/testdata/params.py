#!/usr/bin/env python3
"""Record which values pydantic takes for parameters of which types.

    python params.py > params.json

wants a Python that has blueapi's pydantic. "takes" are those that a model takes
as blueapi's do; an Iterable is read through, for it is checked only then.
"""

import collections
import datetime
import decimal
import json
import pathlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union

from pydantic import BaseModel, create_model

VALUES = [
    None, True, False, 0, 1, 2, -5, 10**30, 0.0, 1.0, 1.5, 1e300,
    "", " ", "5", " 5 ", "-5", "+5", "05", "5.0", "1.5", "1e3", "1_000", "1__0", "_1",
    "0x10", "0b1", "1,000", "5 mm", "\u0665", "\uff15", "inf", "-Infinity", "nan", "1e999",
    "true", "True", "TRUE", " true", "T", "yes", "Y", "on", "off", "n", "maybe",
    "fast", "slow", "Fast", "None", "null", "abc", "2024-01-02", "P1D", "1+2j",
    [], [1], [1.5], ["1"], ["a"], [True], [None], [[1]], [["a"]], [1, "a"], [{}], [1, 2, 3],
    {}, {"a": 1}, {"a": "1"}, {"a": "b"}, {"a": None}, {"a": [1]}, {"1": 1}, {"x": 1},
]


class Point(BaseModel):
    x: float
    y: float = 0.0


TYPES = [
    int, float, bool, str, Any, complex, bytes,
    list, list[int], list[float], list[str], list[bool], list[Any], list[list[int]], set[int], frozenset[str],
    tuple[int, ...], tuple[int], tuple[int, str], Sequence[int], Sequence[str],
    Iterable[int], Iterable[str], collections.deque[int],
    dict, dict[str, int], dict[str, str], dict[str, list[int]], Mapping[str, float], collections.Counter[str],
    Literal["fast", "slow"], Literal["fast"], Literal[1, 2], Literal[1, "a"], Literal[True],
    int | None, str | None, list[int] | None, Union[int, str], int | str | list[int], float | list[float],
    bool | list[Any], Point, Point | None, list[Point], dict[str, Point],
    pathlib.Path, decimal.Decimal, datetime.datetime, datetime.date, datetime.timedelta, uuid.UUID,
]


def takes(model, value):
    try:
        v = model.model_validate({"p": value}).p
        if isinstance(v, Iterator):
            list(v)
    except Exception:
        return False
    return True


def main():
    lines = []
    for t in TYPES:
        model = create_model("plan", __config__={"extra": "forbid"}, p=(t, ...))
        case = {
            "type": t.__name__ if isinstance(t, type) and not hasattr(t, "__args__") else str(t),
            "schema": model.model_json_schema(),
            "takes": [v for v in VALUES if takes(model, v)],
            "refuses": [v for v in VALUES if not takes(model, v)],
        }
        lines.append(json.dumps(case))
    print("[\n" + ",\n".join(lines) + "\n]")


if __name__ == "__main__":
    main()
