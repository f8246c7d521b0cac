#!/usr/bin/env python3
"""Record what bluesky's BestEffortCallback prints on stdout for documents.

    python besteffort.py > besteffort.json 2> /dev/null

wants a Python that has blueapi 1.21.1 (bluesky 1.15.1). Documents go through
orjson, as those do that come from a broker.
"""

import contextlib
import io
import json
import os
import sys
import time

os.environ["MPLBACKEND"] = "agg"

import bluesky.callbacks.core  # noqa: E402
import matplotlib.backend_bases  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import orjson  # noqa: E402
from bluesky.callbacks.best_effort import BestEffortCallback  # noqa: E402

bluesky.callbacks.core.ttime.sleep = lambda _: None  # cosmetic
matplotlib.backend_bases.FigureCanvasBase.draw_idle = lambda _: None  # minutes, and nobody looks

RUN, DESC = "9ab663d7-4315-49eb-89b1-9964530f6aab", "97a5865b-ce58-4863-9411-41de7dbd7269"
T0 = 1795457220.3194


def start(uid=RUN, **more):
    doc = {"uid": uid, "time": T0, "scan_id": 1, "plan_type": "generator", "plan_name": "count"}
    doc.update(more)
    return ["start", {k: v for k, v in doc.items() if v is not ...}]


def key(dtype="number", **more):
    return {"source": "sim", "dtype": dtype, "shape": [], **more}


def descriptor(keys, uid=DESC, name="primary", hints=..., objects=..., run=RUN, **more):
    doc = {
        "uid": uid, "run_start": run, "time": T0, "data_keys": keys, "configuration": {},
        "object_keys": {k: [k] for k in keys} if objects is ... else objects,
        "name": name,
    }
    if hints is not ...:
        doc["hints"] = hints
    doc.update(more)
    return ["descriptor", {k: v for k, v in doc.items() if v is not ...}]


def event(data, n=1, uid=DESC, at=None, **more):
    doc = {"uid": f"event-{n}", "descriptor": uid, "time": T0 + n * 0.1 if at is None else at, "seq_num": n,
           "data": data, "timestamps": {}, "filled": {}}
    doc.update(more)
    return ["event", {k: v for k, v in doc.items() if v is not ...}]


def stop(run=RUN, **more):
    doc = {"uid": "stop", "run_start": run, "time": T0 + 9, "exit_status": "success", "reason": "", "num_events": {}}
    doc.update(more)
    return ["stop", {k: v for k, v in doc.items() if v is not ...}]


TIME = {"dimensions": [[["time"], "primary"]]}


def column(dtype, values, name="x", **more):
    """One run with one column."""
    return [start(hints=TIME), descriptor({name: key(dtype, **more)}),
            *(event({name: v}, i + 1) for i, v in enumerate(values)), stop()]


def scan(x, y, **more):
    """One run over one motor."""
    return [start(hints={"dimensions": [[["m"], "primary"]]}, motors=["m"], **more),
            descriptor({"m": key(), "d": key()}),
            *(event({"m": a, "d": b}, i + 1) for i, (a, b) in enumerate(zip(x, y))), stop()]


LINES = [0, 1, 2, 5, 9, 5, 2, 1, 0]
NUMBERS = [0, -0.0, 1, -1, 0.0005, -0.0004, 2.5, 12345678.9, -12345678.9, 1e9, 1e16, 1e22, 1e100, 1.5e300,
           2**53, 2**63, 2**64 - 1, -2**63, 5e-324, 0.1 + 0.2, 1 / 3]
TEXTS = ["", "a", "ten chars!", "a longer text than the column", "ünïcödé", "日本語の文字がたくさんあります", "e\u0301",
         "tab\there", "two\nlines", "\x1b[31mred", "😀😀", "'quoted'", "{braces}", "%d"]
BASE = "b0000000-0000-4000-8000-000000000000"
CASES = {
    "nothing": [start(), stop()],
    "stop without start": [stop()],
    "no documents of a run": [event({"x": 1})],
    "numbers": column("number", NUMBERS),
    "integers": column("integer", [0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -2**63, 2**64 - 1, 10**11, -10**12]),
    "strings": column("string", TEXTS),
    "booleans": column("boolean", [True, False]),
    "booleans elsewhere": column("number", [True]) + column("integer", [True]) + column("string", [True, False]),
    "numbers that are not": column("number", [None, "1", "nan", [1], {}, 1.5]),
    "nan is null": column("number", [1.0, None, 2.0]),
    "integers that are not": column("integer", [None, 1.5, "1", [1], 1]),
    "strings that are not": column("string", [None, 1, 1.5, [1], "one"]),
    "booleans that are not": column("boolean", [None, 1, "maybe so", True]),
    "array": column("array", [[1, 2, 3]]),
    "unknown type": column("object", [1]),
    "array beside number": [start(hints=TIME), descriptor({"a": key("array"), "n": key()}), event({"a": [1], "n": 2}), stop()],
    "no columns": [start(hints=TIME), descriptor({}), event({}), event({}, 2), stop()],
    "long name": column("number", [1.5, 1e20], "a_name_that_is_longer_than_all_columns"),
    "name of 10": column("number", [1.5], "n" * 10),
    "name of 11": column("number", [1.5], "n" * 11),
    "long name of string": column("string", ["x" * 60], "a_name_that_is_longer_than_all_columns"),
    "unicode name": column("number", [1.5], "θ-ångström-温度計"),
    "name of seq_num": column("integer", [7], "seq_num") + column("number", [7], "seq_num"),
    "name of time": column("number", [7], "time"),
    "names with braces": column("number", [7], "a{0}b%s"),
    "blanks in name": column("number", [7], " a b "),
    "field missing in event": [start(hints=TIME), descriptor({"x": key(), "y": key("string")}),
                               event({"x": 1}), event({"y": "a"}, 2), event({}, 3), stop()],
    "unknown field in event": [start(hints=TIME), descriptor({"x": key()}), event({"x": 1, "z": 2}), stop()],
    "filled": [start(hints=TIME), descriptor({"x": key(), "b": key("boolean"), "i": key("integer")}),
               event({"x": 1, "b": True, "i": 1}, filled={"x": False, "b": False, "i": True}),
               event({"x": 1, "b": True, "i": 1}, 2, filled={"x": "datum-id", "i": None}),
               event({"x": 1, "b": True, "i": 1}, 3, filled=...),
               event({"x": 1, "b": True, "i": 1}, 4, filled={"seq_num": False}),
               event({"x": 1, "b": True, "i": 1}, 5, filled=None), stop()],
    "60 rows": column("number", list(range(60))),
    "120 rows with failures": column("integer", [i if i % 7 else None for i in range(120)]),
    "no precision is 3": column("number", [1.23456789]),
    **{f"precision {p!r}": column("number", [1.23456789, 0], precision=p)
       for p in [0, 1, 6, 12, 40, -1, -5, None, "4", " 4 ", "+4", "-4", "4.5", "", "abc", 2.9, -0.5, -1.5, True, False, [], {},
                 10**12, 1e30]},
    "precision of integer": column("integer", [5], precision=2),
    "precision of string": column("string", ["abcdefghijklmno"], precision=2),
    "hints choose": [start(hints=TIME), descriptor(
        {"d": key(), "d-sum": key(), "d-max": key()}, objects={"d": ["d", "d-sum", "d-max"]},
        hints={"d": {"fields": ["d-sum"]}}), event({"d": 1, "d-sum": 2, "d-max": 3}), stop()],
    "hints choose nothing": [start(hints=TIME), descriptor(
        {"d": key()}, hints={"d": {"fields": []}}), event({"d": 1}), stop()],
    "hints without fields": [start(hints=TIME), descriptor(
        {"d": key()}, hints={"d": {"gridding": "rectilinear"}, "other": {}}), event({"d": 1}), stop()],
    "hints of one of two": [start(hints=TIME), descriptor(
        {"a1": key(), "a2": key(), "b1": key(), "b2": key()}, objects={"b": ["b1", "b2"], "a": ["a1", "a2"]},
        hints={"a": {"fields": ["a2", "a1"]}}), event({"a1": 1, "a2": 2, "b1": 3, "b2": 4}), stop()],
    "hints are null": [start(hints=TIME), descriptor({"d": key()}, hints=None), event({"d": 1}), stop()],
    "hinted field is unknown": [start(hints=TIME), descriptor({"d": key()}, hints={"d": {"fields": ["e", "d"]}}), event({"d": 1}), stop()],
    "hinted field is unknown, one point": [start(hints=TIME, num_points=1), descriptor(
        {"d": key()}, hints={"d": {"fields": ["e", "d"]}}), event({"d": 1}), stop()],
    "field hinted twice": [start(hints=TIME), descriptor(
        {"d": key(), "e": key()}, hints={"d": {"fields": ["d", "e", "d"]}}), event({"d": 1, "e": 2}), stop()],
    "motors": scan(range(9), LINES),
    "motors, one point": scan([1], [5], num_points=1),
    "motors, flat": scan(range(4), [3] * 4),
    "motors, zero": scan(range(4), [0] * 4),
    "motors, one place": scan([1] * 4, [0, 5, 5, 0]),
    "motors, null": scan(range(3), [1.0, None, 2.0]),
    "motors, all null": scan(range(3), [None] * 3),
    "motors, one null": scan([1], [None]),
    "motors, text": scan(range(3), ["a", "b", "c"]),
    "motors, null place": scan([None, 1, 2], [1, 2, 3]),
    "motors, truth": scan(range(4), [True, False, True, True]),
    "motors, then interrupted": scan(range(9), LINES)[:-1],
    "motors by name": [start(motors=["m"]), descriptor(
        {"m_rbv": key(), "d": key()}, objects={"m": ["m_rbv"], "d": ["d"]}), event({"m_rbv": 1, "d": 2}), stop()],
    "motors by hint": [start(motors=["m"]), descriptor(
        {"m": key(), "m_set": key(), "d": key()}, objects={"d": ["d"], "m": ["m", "m_set"]}, hints={"m": {"fields": ["m"]}}),
        event({"m": 1, "m_set": 1.5, "d": 2}), stop()],
    "motors unknown": [start(motors=["m"]), descriptor({"d": key()}), event({"d": 2}), stop(),
                       start(uid="second-run"), descriptor({"d": key()}, uid="d2"), event({"d": 3}, uid="d2"), stop("second-run")],
    "motors of two fields": [start(motors=["m"]), descriptor(
        {"m1": key(), "m2": key(), "d": key()}, objects={"m": ["m1", "m2"], "d": ["d"]}), event({"m1": 1, "m2": 2, "d": 3}), stop()],
    "no motors": [start(motors=[]), descriptor({"d": key()}), event({"d": 2}), stop()],
    "a guess outlives its run": [start(), stop(), start(uid="r2", hints={"dimensions": [[["m"], "primary"]]}),
                                 descriptor({"m_rbv": key(), "m": key()}, objects={"mm": ["m", "m_rbv"]}, run="r2"),
                                 event({"m": 1, "m_rbv": 2}), stop("r2")],
    "two dimensions": [start(hints={"dimensions": [[["y"], "primary"], [["x"], "primary"]]}, motors=["y", "x"]),
                       descriptor({"x": key(), "y": key(), "d": key()}),
                       *(event({"x": i % 3, "y": i // 3, "d": i}, i + 1) for i in range(9)), stop()],
    "grid": [start(hints={"dimensions": [[["y"], "primary"], [["x"], "primary"]], "gridding": "rectilinear"},
                   extents=[[0, 2], [0, 2]], shape=[3, 3]),
             descriptor({"x": key(), "y": key(), "d": key()}),
             *(event({"x": i % 3, "y": i // 3, "d": i}, i + 1) for i in range(9)), stop()],
    "three dimensions": [start(hints={"dimensions": [[["x"], "primary"], [["y"], "primary"], [["z"], "primary"]]}),
                         descriptor({"x": key(), "y": key(), "z": key(), "d": key()}),
                         event({"x": 1, "y": 2, "z": 3, "d": 4}), stop()],
    "inner product": [start(hints={"dimensions": [[["x", "y"], "primary"]]}), descriptor({"x": key(), "y": key(), "d": key()}),
                      *(event({"x": i, "y": -i, "d": i * i}, i + 1) for i in range(5)), stop()],
    "dimension without fields": [start(hints={"dimensions": [[[], "primary"]]}), descriptor({"d": key()}), event({"d": 2}), stop()],
    "no dimensions": [start(hints={"dimensions": []}), descriptor({"d": key()}), event({"d": 2}), stop()],
    "dimensions null": [start(hints={"dimensions": None}), descriptor({"d": key()}), event({"d": 2}), stop()],
    "dimensions of two streams": [start(hints={"dimensions": [[["x"], "primary"], [["y"], "other"]]}, motors=["x"]),
                                  descriptor({"x": key(), "d": key()}), event({"x": 1, "d": 2}), stop()],
    "dimensions of another stream": [start(hints={"dimensions": [[["x"], "other"]]}),
                                     descriptor({"d": key()}), event({"d": 2}),
                                     descriptor({"x": key()}, uid="o", name="other"), event({"x": 2}, uid="o"), stop()],
    "dimensions broken": [start(hints={"dimensions": [["x"]]}), descriptor({"d": key()}), event({"d": 2}), stop()],
    "baseline": [start(hints=TIME), descriptor({"t": key(), "s": key("string"), "u": key(), "b": key("boolean"), "hidden": key()},
                                               uid=BASE, name="baseline", hints={"hidden": {"fields": []}}),
                 event({"t": 295.5, "s": "open", "u": 10**13, "b": True, "hidden": 1}, uid=BASE),
                 descriptor({"x": key()}), event({"x": 1}), event({"x": 2}, 2),
                 event({"t": -1e-7, "s": "a text that is much longer than its column", "u": 3.0, "b": False, "hidden": 1}, 2, uid=BASE),
                 stop()],
    "baseline, unicode": [start(hints=TIME), descriptor({"温度": key("string"), "n" * 40: key()}, uid=BASE, name="baseline"),
                          event({"温度": "日本", "n" * 40: 1e16}, uid=BASE), event({"温度": "ü", "n" * 40: 0.1}, 2, uid=BASE), stop()],
    "baseline, null": [start(hints=TIME), descriptor({"a": key(), "b": key(), "c": key()}, uid=BASE, name="baseline"),
                       event({"a": 1, "b": None, "c": 2}, uid=BASE), event({"a": 1, "b": [1], "c": 2}, 2, uid=BASE), stop()],
    "baseline thrice": [start(hints=TIME), descriptor({"a": key()}, uid=BASE, name="baseline"),
                        *(event({"a": i}, i, uid=BASE) for i in (1, 2, 3)), stop()],
    "baseline only at the start": [start(hints=TIME), descriptor({"a": key()}, uid=BASE, name="baseline"), event({"a": 1}, uid=BASE), stop(),
                                   start(uid="r2", hints=TIME), descriptor({"a": key()}, uid=BASE, name="baseline"),
                                   event({"a": 1}, uid=BASE), stop("r2")],
    "stop twice": [start(hints=TIME), descriptor({"a": key()}, uid=BASE, name="baseline"), event({"a": 1}, uid=BASE), event({"a": 2}, 2, uid=BASE),
                   stop(), stop()],
    "monitor": [start(hints=TIME), descriptor({"x": key()}), descriptor({"m": key()}, uid="mon", name="x_monitor"),
                event({"x": 1}), event({"m": 3}, uid="mon"), event({"x": 2}, 2), event({"m": 3}, 2, uid="mon"), stop()],
    "descriptor without events": [start(hints=TIME), descriptor({"x": key(), "s": key("string"), "i": key("integer")}), stop()],
    "monitor without events": [start(hints=TIME), descriptor({"x": key()}), descriptor({"m": key()}, uid="mon", name="x_monitor"),
                               event({"x": 1}), stop()],
    "baseline without events": [start(hints=TIME), descriptor({"x": key()}, name="baseline"), stop()],
    "without events, one point": [start(hints=TIME, num_points=1), descriptor({"x": key()}), stop()],
    "two descriptors of a stream": [start(hints=TIME), descriptor({"x": key()}), event({"x": 1}),
                                    descriptor({"x": key(), "y": key("string")}, uid="second"), event({"x": 2, "y": "b"}, 2, uid="second"),
                                    event({"x": 3}, 3), event({"x": 4, "y": "d"}, 4, uid="second"), stop()],
    "descriptor twice": [start(hints=TIME), descriptor({"x": key()}), descriptor({"x": key()}), event({"x": 1}), stop()],
    "two runs": column("number", [1.5]) + column("string", ["a"], "other"),
    "overlapping runs": [start(hints=TIME), descriptor({"x": key()}), event({"x": 1}),
                         start(uid="second-run", scan_id=2, hints=TIME), event({"x": 2}, 2),
                         descriptor({"y": key()}, uid="dy", run="second-run"), event({"y": 1}, uid="dy"), stop(),
                         event({"y": 2}, 2, uid="dy"), stop("second-run")],
    "stop of another run": [start(hints=TIME), descriptor({"x": key()}), event({"x": 1}), stop("another"), stop()],
    "scan ids": sum(([start(scan_id=i), stop()] for i in ["a", None, 1.5, [1, "b"], {"a": True}, -3, True, ...]), []),
    "plan names": sum(([start(hints=TIME, plan_name=n, plan_type=n), descriptor({"x": key()}), event({"x": 1}), stop()]
                       for n in ["a b", None, {"a": 1.0}, "ünï", ...]), []),
    "odd uids": sum(([start(uid=u, hints=TIME), descriptor({"x": key()}), event({"x": 1}), stop(u)] for u in ["", "short", "日本語の文字がたくさん"]), []),
    "start without uid": [start(uid=...), descriptor({"x": key()}), event({"x": 1}), stop()],
    "start without time": [start(time=..., hints=TIME), descriptor({"s": key("string")}), event({"s": "a"}), stop()],
    "times": [start(hints=TIME), descriptor({"x": key()}),
              *(event({"x": 1}, i + 1, at=at) for i, at in enumerate(
                  [1795457220, 1795457220.0, 1795457220.05, 1795457220.9999999, 1795457220.99999999, 0.1, 0, -1.5, 1e9 + 0.25,
                   1795457220.9999995, 1795457220.1000005, 4102444799.95, "12:00", None, 1e18, ...])), stop()],
    "years": sum(([start(time=t), stop()] for t in [0, -1.5, 86399.9999996, 1e9, 1719792000.5, 1711846799.9, 1711846800, 1729990800, 253402300799]), []),
    "seq_nums": [start(hints=TIME), descriptor({"x": key()}),
                 *(event({"x": 1}, n, at=T0) for n in [1, 10**9 - 1, 10**12, -1, 0, 1.5, "1", None, True]),
                 event({"x": 1}, seq_num=...), stop()],
    "events without members": [start(hints=TIME), descriptor({"x": key()}), event(...), event({"x": 1}, 2, descriptor=...),
                               event({"x": 1}, 3, descriptor="unknown"), event(None, 4), event({"x": 5}, 5), stop()],
    "descriptors without members": sum(([start(hints=TIME), descriptor({"x": key()}, **{m: ...}), event({"x": 1}), stop()]
                                        for m in ["data_keys", "object_keys", "run_start", "name", "uid"]), []),
    "data keys without type": [start(hints=TIME, num_points=1), descriptor({"x": {"source": "sim"}}), event({"x": 1}), stop()],
    "data keys without type, plotted": [start(hints=TIME), descriptor({"x": {"source": "sim"}}), event({"x": 1}), stop()],
    "stop without run": [start(hints=TIME), descriptor({"x": key()}), event({"x": 1}), stop(run_start=...)],
    "names of streams": [start(hints=TIME), *(descriptor({"x": key()}, uid=n, name=n) for n in ["it's", 'say "x"', "a\nb", "ü", "a\\b", ""]), stop()],
    "old documents": [start(), descriptor({"x": key()}, name=...), event({"x": 1}), stop()],
    "event page": [start(hints=TIME), descriptor({"x": key(), "s": key("string")}), ["event_page", {
        "descriptor": DESC, "uid": ["a", "b", "c"], "time": [T0, T0 + 1, T0 + 2], "seq_num": [1, 2, 3],
        "data": {"x": [1.5, 2.5, 3.5], "s": ["a", "b", "c"]}, "timestamps": {"x": [1, 2, 3], "s": [1, 2, 3]},
        "filled": {"x": [True, False, True], "s": [True, True, True]}}], stop()],
    "event page, uneven": [start(hints=TIME), descriptor({"x": key()}), ["event_page", {
        "descriptor": DESC, "uid": ["a", "b", "c"], "time": [T0, T0 + 1], "seq_num": [1, 2, 3, 4],
        "data": {"x": [1.5, 2.5]}, "timestamps": {}}], stop()],
    "other documents": [start(hints=TIME), descriptor({"x": key()}), ["stream_resource", {"uid": "r"}], ["stream_datum", {"uid": "r/0"}],
                        ["resource", {}], ["datum", {}], ["nonsense", {}], event({"x": 1}), stop()],
    "large": [start(hints=TIME), descriptor({f"field-{i}": key(["number", "integer", "string"][i % 3], precision=i) for i in range(12)}),
              *(event({f"field-{i}": [n * 1.1, n, "v" * n][i % 3] for i in range(12)}, n) for n in range(1, 61)), stop()],
}
ZONES = ["UTC", "Europe/London", "Asia/Kathmandu", "America/St_Johns"]


def printed(docs):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        callback = BestEffortCallback()
        for name, doc in docs:
            callback(name, orjson.loads(orjson.dumps(doc)))
    plt.close("all")
    return out.getvalue()


def recorded(path):
    """The documents that a server has sent."""
    for line in open(path):
        head, _, body = json.loads(line).get("frame", "").partition("\n\n")
        if "MESSAGE" in head:
            event = json.loads(body.rstrip("\0\n"))
            if "doc" in event:
                yield [event["name"], event["doc"]]


def main():
    cases = dict(CASES)
    for path in sys.argv[1:]:
        cases["recorded " + os.path.basename(path)] = list(recorded(path))
    out = []
    for i, (name, docs) in enumerate(cases.items()):
        zones = ZONES if name in ("times", "years") else [ZONES[i % len(ZONES)]]
        for zone in zones:
            os.environ["TZ"] = zone
            time.tzset()
            out.append({"name": name, "zone": zone, "docs": [{"name": n, "doc": d} for n, d in docs], "text": printed(docs)})
    lines = (orjson.dumps(case).decode() for case in out)
    print("[\n" + ",\n".join(lines) + "\n]")


if __name__ == "__main__":
    main()
