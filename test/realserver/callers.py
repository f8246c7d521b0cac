"""Callers of blueapi as they are, for tests of what stands between them and the server.

    callers.py              one JSON object a line on stdin, an answer to each on stdout
    callers.py '{"call": ...}'  the same for one

A call names a configuration file of blueapi; each makes a client of its own, as a script
does. Started this way Python's slow start is paid once for all of them.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import yaml
from aiohttp import ClientSession
from blueapi.client.client import BlueapiClient
from blueapi.client.rest import ServiceUnavailableError
from blueapi.service.model import TaskRequest

SESSION = "cm12345-1"


def client(call: dict[str, Any]) -> BlueapiClient:
    return BlueapiClient.from_config_file(call["config"])


def request(call: dict[str, Any], **params: Any) -> TaskRequest:
    return TaskRequest(
        name=call["plan"],
        params={**call["params"], **params},
        instrument_session=SESSION,
    )


def run(call: dict[str, Any]) -> Any:
    """run_task: by STOMP if that is configured, else by WebSocket."""
    status = client(call).run_task(request(call))
    return status.model_dump(mode="json")


def start(call: dict[str, Any]) -> Any:
    """create_and_start_task, and then a look at the task until it is over."""
    c = client(call)
    task_id = c.create_and_start_task(request(call)).task_id
    while not (task := c.get_task(task_id)).is_complete:
        time.sleep(0.2)
    return {
        "task_id": task_id,
        "task_failed": bool(task.errors),
        "result": task.outcome and task.outcome.model_dump(mode="json"),
    }


def poll(call: dict[str, Any]) -> Any:
    """Ask for the worker's state ten times a second."""
    c = client(call)
    seen: dict[str, int] = {}
    end = time.monotonic() + call["seconds"]
    while time.monotonic() < end:
        state = c.state.name
        seen[state] = seen.get(state, 0) + 1
        time.sleep(0.1)
    return seen


def supervisor(call: dict[str, Any]) -> Any:
    """Samples one after another, as the supervisor of unattended collection does.

    Each is tried three times if the service is unavailable, with pauses of 2 and 4 s
    (and 8 s after the last, left out here); all else ends the collection.
    """
    c = client(call)
    done = []
    for sample in call["samples"]:
        delay = 2
        for _ in range(3):
            try:
                status = c.run_task(request(call, line=sample))
            except ServiceUnavailableError:
                time.sleep(delay)
                delay += delay
            else:
                break
        else:
            raise RuntimeError(f"{sample}: unable to connect after 3 attempts")
        if status.task_failed:
            raise RuntimeError(f"{sample}: {status.result}")
        done.append(sample)
    return done


def raw(call: dict[str, Any]) -> Any:
    """POST, PUT, and GET twice a second by aiohttp, as one hutch asks another."""
    with open(call["config"]) as f:
        url = yaml.safe_load(f)["api"]["url"]
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    body = {"name": call["plan"], "params": call["params"], "instrument_session": SESSION}

    async def ask() -> Any:
        async with ClientSession(base_url=url, raise_for_status=True) as session:
            async with session.post("/tasks", data=json.dumps(body), headers=headers) as r:
                task_id = (await r.json())["task_id"]
            put = json.dumps({"task_id": task_id})
            async with session.put("/worker/task", data=put, headers=headers):
                pass
            while True:
                async with session.get(f"/tasks/{task_id}") as r:
                    task = await r.json()
                if task["errors"]:
                    raise RuntimeError(task["errors"])
                if task["is_complete"]:
                    return {"task_id": task_id, "task_failed": False, "result": task["outcome"]}
                await asyncio.sleep(0.5)

    return asyncio.run(ask())


CALLS: dict[str, Callable[[dict[str, Any]], Any]] = {
    f.__name__: f for f in (run, start, poll, supervisor, raw)
}


def answer(line: str) -> str:
    call = json.loads(line)
    # A configuration may come from the environment, as it does for a child of exec.
    call.setdefault("config", os.environ.get("BLUEAPI_CONFIG"))
    begin = time.monotonic()
    try:
        told = {"result": CALLS[call["call"]](call)}
    except Exception as e:  # noqa: BLE001 - it is what the test wants to know
        told = {"error": f"{type(e).__name__}: {e}"}
    return json.dumps({**told, "took": time.monotonic() - begin})


def main() -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is not an answer
    for line in sys.argv[1:] or sys.stdin:
        print(answer(line), file=out)


if __name__ == "__main__":
    main()
