"""daq-queuing-service as it is: queue_service.py CONFIG PORT.

But on loopback only, and it does not look its plans up in the catalogue of the facility,
which it does after each of them and dies of where there is none.
"""

import sys
from pathlib import Path

import uvicorn
from daq_queuing_service.app.app import create_app
from daq_queuing_service.task_queue import queue

if __name__ == "__main__":
    queue.get_tiled_client = lambda: None
    queue.get_tiled_and_scan_ids = lambda _client, _call: ([], [])
    uvicorn.run(create_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]))
