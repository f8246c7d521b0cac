"""daq-queuing-service as it is, but on loopback only: queue_service.py CONFIG PORT."""

import sys
from pathlib import Path

import uvicorn
from daq_queuing_service.app.app import create_app

if __name__ == "__main__":
    uvicorn.run(create_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]))
