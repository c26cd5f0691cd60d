"""Many watches on one triggerer: what one of them waits for holds up no other."""

from __future__ import annotations

import asyncio
import time

from bluegreen.core.colors import Color
from bluegreen.release.watch import in_thread, watch
from tests.unit.release.test_watch import RealTime, canary


def test_a_restore_does_not_wait_for_routers_that_hold_up_other_watches_renewals():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5

    async def beside_hung_routers():
        hung = [asyncio.create_task(in_thread(lambda: time.sleep(3))) for _ in range(64)]
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        end = await watch(ports, spec)
        took = time.monotonic() - begun
        for one in hung:
            one.cancel()
        return end, took

    end, took = asyncio.run(beside_hung_routers())
    assert (end.says, world.splits()) == ("unhealthy", {"100/0"})
    assert took < 2.5
