"""
Keep-alive HTTP/1.1 load with honest accounting: what users of a service live through, request by request.

A request is never retried. With a rate, requests have a timetable and their latency counts from the time they
were due, so a stall of the server shows in every request that it delayed.

Use `Load` inside an event loop, or `LoadProcess` to run it in a process of its own (`python -m demo.load`).
"""

from demo.load.counts import Series, Snapshot
from demo.load.process import LoadProcess
from demo.load.records import Record, Records
from demo.load.sender import Load

__all__ = ["Load", "LoadProcess", "Record", "Records", "Series", "Snapshot"]
