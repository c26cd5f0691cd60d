"""What Airflow's UI says of each DAG and each task: what it does, what its red means, what the next click is."""

from __future__ import annotations

import re

from bluegreen.catalog.approvals import Approvals
from bluegreen.catalog.durations import text
from bluegreen.release.answer import who

RELEASE_DOC = """
### Release {service}

Brings a version to the idle color, tests it, gives it {shares} of the traffic, watches, switches, watches again, and
settles, or puts the traffic back. The run is green only when the new version is live, proven and settled; the run's
note says what happened.

{approvals}* Something is wrong and you want the old version **now**: start `rollback__{service}`. It works while this runs,
  and after it until `retire__{service}` has run.
* Airflow is broken: `bluegreen status {service}` tells the truth, `bluegreen restore {service} --reason WHY` puts it back.
* You know better than a watch: add the XCom `promote` with your reason to it, then mark it success.
"""

ROLLBACK_DOC = """
### Roll {service} back

During a release: stop it, and put the traffic back to the color that was live before. After one: go back to the color
before, while it still runs its version. Refuses, naming what to release instead, when there is nothing to go back to.
"""

RETIRE_DOC = """
### Retire {service}'s old color

Ends the way back of the last release, then stops what the idle color still runs. After it `rollback__{service}` refuses.
{waits}; a run whose release is not the last one any more does nothing.
"""

CONTRACT_DOC = """
### Take away what {service}'s database does not need any more

Executes the destructive half of the migrations. Refuses, and says what to do, unless the last release is finished, its old
color retired, the soak time over, no session of that color left, every backfill done, and the linter agrees. There is no way
back of it.
"""

GUARDIAN_DOC = """
### Guardian

Looks at every service each 15 seconds: restores those whose lease has run out, and brings nodes that came back up to the
truth. **Keep it unpaused.** `bluegreen guard` from cron does the same where Airflow itself may be down.

Red means that a person must look: the log of `guard` names the service, what is wrong and the next step. It stays red until it
is mended.
"""

_TASKS = {
    "plan": """Asks every node of the router what is live, refuses what cannot be, and claims {service} for this run.

**Red**: nothing was touched. The log says whose the service is, or what is wrong. **Then**: mend it and trigger a new run.""",
    "lint": """Reads the migrations that this release would execute, and refuses what would break the old color, block the way
back, or stop production.

**Red**: nothing was touched. The log names each statement and what to write instead. `bluegreen migrations lint {service}` says
the same on your machine.""",
    "scratch": """Runs both versions' tests on a database that may be destroyed, before and after the migrations.

**Red**: the log has the tests' last lines. Production's database was not touched.""",
    "expand": """Executes the compatible half of the migrations, with short tries for each lock. **Skipped**: nothing was pending.

**Red**: the log has the statement, and who holds the lock. No traffic has moved; a new release goes on from there.""",
    "backfill": """Fills what the migrations added, in small transactions, with pauses. **Skipped**: nothing was pending.

**Red**: the log says how far it is, or which rows still differ. No traffic has moved; a new release goes on from there.""",
    "old_version": """Asks the live color its smoke tests again: the old version must work on the changed schema, too.

**Red**: users may notice it **now**. The log says which test; give the schema back what the old version needs.""",
    "caught_up": """Waits until replication, consumers and copies are not behind any more.

**Red**: the log says what is behind, and how far. No traffic has moved.""",
    "ready": """Sees whether anything could still need what is to be taken away. **Skipped**: nothing is pending.

**Red**: nothing was touched; the log says what is in the way, and what to do.""",
    "approve": """Waits for a person: *Required actions* of this task. A no touches nothing.""",
    "contract": """Looks at everything once more, executes the destructive half, and asks the live color its smoke tests.

**Red**: the log has the statement; a new run goes on from there. Red after it: the live version misses what was taken away.""",
    "deploy": """Runs the service's deploy on the idle color and waits until its servers are healthy at the version, also for the
router. Users notice nothing: the color has no traffic.

**Red**: the log has the command's last lines, each server's answer and the diagnosis. **Then**: mend the version, new run.""",
    "prewarm": """Sends the idle color the requests of `prewarm`, so that its first users find it warm.

**Red**: too many of them failed. No traffic has moved.""",
    "smoke": """Asks every server of the idle color the questions of `smoke`.

**Red**: the log says which server answered what instead of what. No traffic has moved.""",
    "sessions": """Makes a session on each color and uses it on the other: forward, and on the way back.

**Red**: the log says which way a session is lost, and what was answered. No traffic has moved.""",
    "state_transfer": """Brings the state of the live color to the idle one, and lets it be checked: the service's own commands.

**Red**: the log has the command's last lines. No traffic has moved; `state.reverse` is run.""",
    "canary_sessions": """Makes and uses sessions through the entry, both ways, while both colors have traffic.

**Red**: the log says which way a session is lost, and what was answered. The traffic is put back.""",
    "switch_sessions": """Makes and uses sessions, both ways, where no canary had traffic before. **Skipped**: the canary's task did it.

**Red**: the log says which way a session is lost, and what was answered. The traffic is put back.""",
    "approve_canary": """Waits for people, before any traffic moves: *Required actions* of this task.

**Red**: a no, or no answer in time. All traffic stays where it is.""",
    "canary": """Gives the new color its share of new requests, reads it back from every node and proves it through the entry.

**Red**: the log says which node said or routed otherwise. The traffic is put back.""",
    "canary_watch": """Samples both colors each second and asks the service's rules. Deferred: it takes no worker.

**Red**: the rule and its numbers stand in the log; the traffic was put back by the watch itself, within a second.
**You know better than the watch**: add the XCom `promote` with your reason to it while it runs, then mark it success.""",
    "hold": """Lets the last canary keep its share while people are asked.""",
    "approve_switch": """Waits for people, while the canary keeps its share: *Required actions* of this task.

**Red**: a no, or no answer in time. The traffic is put back.""",
    "switch": """Gives the new color all traffic and proves it; workers and cron jobs follow.

**Red**: the log says why; the traffic is put back.""",
    "watch": """Watches the new color with all traffic. When it ends healthy, the release is settled.

**Red**: the rule and its numbers stand in the log; the traffic was put back by the watch itself.""",
    "outcome": """Chooses: `finish` after a healthy last watch, `rollback` after anything else. It moves nothing.""",
    "finish": """Settles: the release is final, no lease can run out any more. Then waits for the old color's last requests.

**Red**: see `safe`, which says what stands.""",
    "keep_old": """Starts the run of `retire__{service}` that waits until the old color is not kept any more.

**Red**: the release stays promoted; start `retire__{service}` yourself when the old color may go.""",
    "rollback": """Puts all traffic back on the color that was live when this release began, and says what is wrong with the new one.

**Red and tried again**: a node or a role is not back yet. **Then**: the log says which; the guard goes on, too.""",
    "safe": """Runs however the release ended. When it is green, all traffic is whole on a color that serves: its log says which.

**Red**: look at once: `bluegreen status {service}`, then `bluegreen restore {service} --reason WHY`.""",
    "verdict": """Reads the router and tells the truth in the run's state and note; leaves the report, which its log shows.

**Red**: not promoted. The first line of the log says why, the second what serves now.""",
    "rollback_now": """Puts the traffic back: of a release under way, or of the last one while its old color is kept.

**Red**: the log says why there is nothing to go back to, and what to release instead.""",
    "retire": """Ends the way back of the last release, then stops its old color. **Skipped**: another release came.

**Red**: the log says what still uses the old color, or why it did not stop. **Then**: mend that, start it again.""",
    "guard": """Looks at every service at the same time; one that fails keeps no other from it.

**Red**: a person must look; the log has one sentence a service.""",
}


def task_doc(task: str, service: str) -> str:
    """
    Return what a task says of itself.

    :param task: its id; canary steps are numbered
    :raises KeyError: a task that nobody has described
    """
    return _TASKS[re.sub(r"canary_\d+", "canary", task)].format(service=service)


def approvals_doc(approvals: Approvals) -> str:
    """Return who is asked where, a line each."""
    places = (("before the canary", approvals.before_canary), ("before the full switch", approvals.before_switch))
    lines = [
        f"* Asked {place}: {who(one)}, for {text(one.deadline)}. No answer is a no." for place, one in places if one
    ]
    return "".join(f"{line}\n" for line in lines)
