#!/usr/bin/env python3
"""Record what blueapi makes of configuration files.

    python record.py blueapi.json

wants a Python that has blueapi installed. It reads the cases of the file (name,
files, env), lets blueapi load them, and writes under "blueapi" what a client
would use of the result, or the type of the error. A file is text; one that is
marked "latin1" is written in that encoding.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

from blueapi.config import ApplicationConfig, ConfigLoader


def load(case):
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, text in enumerate(case["files"]):
            paths.append(Path(folder) / f"{i}.yaml")
            encoding = "latin1" if case.get("latin1") else "utf-8"
            paths[-1].write_bytes(text.encode(encoding))
        loader = ConfigLoader(ApplicationConfig)
        loader.use_values_from_yaml(*paths)
        if host := case.get("host"):
            loader.use_values({"api": {"url": host}})
        return loader.load()


def describe(config):
    auth = config.stomp.auth
    return {
        "url": str(config.api.url),
        "stomp": {
            "enabled": config.stomp.enabled,
            "url": str(config.stomp.url),
            "username": auth.username if auth else "",
            "password": auth.password.get_secret_value() if auth else "",
        },
        "auth_token_path": str(config.auth_token_path or ""),
        "level": config.logging.level,
    }


def main():
    path = Path(sys.argv[1])
    cases = json.loads(path.read_text())
    for case in cases:
        before = dict(os.environ)
        os.environ.update(case.get("env", {}))
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                case["blueapi"] = describe(load(case))
        except Exception as e:
            case["blueapi"] = {"refused": type(e).__name__}
        finally:
            os.environ.clear()
            os.environ.update(before)
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
