"""The embedded stack: a sample shop, real HAProxy nodes and real load, all on loopback.

Used by ``make demo``, by the tests and by the benchmarks. Nothing here is part of the product,
no system service is touched, and everything that is started is stopped by its own process id.
"""
