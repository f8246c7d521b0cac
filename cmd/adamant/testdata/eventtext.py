#!/usr/bin/env python3
"""Record how blueapi's client words events.

    python eventtext.py > eventtext.json

wants a Python that has blueapi 1.21.1.
"""

import io
import json

import orjson
from blueapi.cli.format import OutputFormat
from blueapi.client.event_bus import AnyEvent
from bluesky_stomp.serdes import deserialize_message

TASK = "24b720b5-3f90-4634-b3f3-aceecd13824e"


def status(**more):
    return {"display_name": "x", "current": 1.5, "initial": 0.0, "target": 2, "unit": "mm", "precision": 3, "done": False,
            "percentage": None, "time_elapsed": 1, "time_remaining": None, **more}


def worker(state="RUNNING", result=None, **more):
    return {"state": state, "task_status": {"task_id": TASK, "result": result, "task_complete": True, "task_failed": False},
            "errors": [], "warnings": [], **more}


def moves(*statuses):
    return {"task_id": TASK, "statuses": {f"id-{i}": s for i, s in enumerate(statuses)}}


def document(doc, name="event"):
    return {"name": name, "doc": doc, "task_id": TASK}


VALUES = {"n": None, "t": True, "f": False, "i": 0, "j": 7, "x": 0.0, "y": -1.5e-7, "z": 1e16, "e": "", "s": "text",
          "l": [], "m": [1, "a", None, {"b": [True]}], "d": {}, "o": {"n": None, "p": {"q": "r"}}, "u": "ünï \n\t'quoted' \"so\" 😀"}
EVENTS = [
    *(worker(state) for state in ["IDLE", "RUNNING", "PAUSED", "ABORTING", "PANICKED", "UNKNOWN"]),
    worker(task_status=None), {"state": "IDLE"}, worker(errors=["a", "b"], warnings=["c"]),
    worker("IDLE", {"outcome": "success", "result": None, "type": "NoneType"}),
    worker("IDLE", {"type": "dict", "result": VALUES, "outcome": "success"}),
    worker("IDLE", {"outcome": "success", "type": "int"}),
    worker("IDLE", {"outcome": "error", "type": "ValueError", "message": "boom\nagain"}),
    {"errors": [], "state": "IDLE", "task_status": {"task_failed": True, "task_complete": True, "task_id": TASK}},
    moves(), moves(status()), moves({}), moves(status(percentage=0)), moves(status(percentage=0.0)),
    moves(status(percentage=1)), moves(status(percentage=0.29)), moves(status(percentage=1 / 3), status(percentage=0.5), status()),
    moves(status(), status(percentage=-0.5)), moves(status(percentage=-0.5), status(percentage=-0.25)), moves(status(percentage=-1), status()),
    moves({"display_name": "y", "done": True, "percentage": 1.0}), moves({"precision": 0, "target": 5, "time_elapsed": 2}),
    document({}), document({"uid": "a"}, "start"), document(VALUES), document({"o": VALUES, "data": {"a": None}}),
    document({"big": 2**64, "small": -2**63, "long": 12345678901234567890}),
    *(document({"a": 1}, name) for name in ["stream_resource", "event_page", "", "ABC", "it's 2nd3rd", "ǆ"]),
]


def main():
    out = []
    for event in EVENTS:
        raw = orjson.dumps(event) if "big" not in event.get("doc", {}) else json.dumps(event).encode()
        case = {"raw": json.loads(raw)}
        for fmt in OutputFormat:
            text = io.StringIO()
            fmt.display(deserialize_message(raw, AnyEvent), text)
            case[fmt.value] = text.getvalue()
        out.append(json.dumps(case))
    print("[\n" + ",\n".join(out) + "\n]")


if __name__ == "__main__":
    main()
