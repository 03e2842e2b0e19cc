"""What sampling saves: bytes on the wire and requests for a prediction, with all sent whole and with samples.

Bytes are those of the bodies, compressed as the client sends them. Each client logs at the same pace, one after the
other; a server in a process of its own counts what arrives. What a prediction costs the caller with and without
sampling is in benchmarks/client.py, in one run with the other states.

    python benchmarks/sampling.py [--seconds 5]

Finds the client in ../client/src if it is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

with contextlib.suppress(ImportError):
    sys.path.append(str(Path(__file__).resolve().parent.parent / "client" / "src"))
    import predlog

RATES = (50, 500, 5_000)  # predictions a second
SHARES = (1.0, 0.1, 0.01)
METADATA = {"rooms": 3, "region": "north", "request": "f3b2"}
TICK = 0.01

SERVER = """
import gzip, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
seen = {"bytes": 0, "requests": 0, "predictions": 0}
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        records = json.loads(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        seen["bytes"] += len(body)
        seen["requests"] += 1
        seen["predictions"] += sum(record.get("count", 1) for record in records)
        self.answer({"stored": len(records), "duplicates": 0, "rejected": []})
    def do_GET(self):
        self.answer(seen)
    def answer(self, said):
        text = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def service() -> Iterator[str]:
    """A server that counts, in a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def send(url: str, share: float, rate: int, seconds: float) -> int:
    """Log at that rate for so long; return how many predictions."""
    dice, logged = random.Random(7), 0
    with predlog.Client(url, sample=share) as client:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            while logged < passed * rate:
                duration, success = dice.lognormvariate(3, 0.7), dice.random() > 0.01
                client.log("apartment_price", duration, success, "3", None if success else "ValueError: no", METADATA)
                logged += 1
            time.sleep(TICK)
        assert client.flush(30)
    return logged


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each client logs")
    seconds = parser.parse_args().seconds
    print("| predictions a second | sample | bytes a prediction | less by | requests |")
    print("|---:|---:|---:|---:|---:|")
    for rate in RATES:
        most = 0.0
        for share in SHARES:
            with service() as url:
                logged = send(url, share, rate, seconds)
                seen = json.load(urllib.request.urlopen(url))
            assert seen["predictions"] == logged, "predictions were lost"
            each = seen["bytes"] / logged
            most = most or each
            print(f"| {rate:,} | {share:g} | {each:,.1f} | {most / each:.1f} | {seen['requests']} |")


if __name__ == "__main__":
    main()
