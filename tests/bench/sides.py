"""What is compared: each side is a process of its own, which reads the whole topic and tells the CPU time it took.

``python -m tests.bench.sides`` reads a ``Job`` from stdin and writes an ``Outcome`` to stdout, both JSON. CPU time is
the process's user and system time with all of its threads, librdkafka's too, from the moment on at which the side is
at work: what a start costs (imports above all) is nobody's cost of an event.
"""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from tests.bench.jobs import Job, Outcome

SIDES: Final = ("floor", "streamdrift", "river")


def run(job: Job) -> Outcome:
    """Do the job of one of ``SIDES``; each imports what it needs, and no more."""
    if job.side == "streamdrift":
        from tests.bench.service import streamdrift

        return streamdrift(job)
    from tests.bench import plain

    return {"floor": plain.floor, "river": plain.river}[job.side](job)


if __name__ == "__main__":
    print(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))).decode())
