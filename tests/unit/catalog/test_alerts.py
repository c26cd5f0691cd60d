"""What a service file may say about who hears of a release, and how it is told what it may not."""

from __future__ import annotations

import pytest
import yaml

from bluegreen.catalog.alerts import Channel, Notify
from bluegreen.catalog.load import load_file, load_way_back
from bluegreen.catalog.section import connections
from bluegreen.core.errors import CatalogError
from bluegreen.core.notice import ENDS, NEED_PEOPLE, SEVERITY
from tests.unit.catalog.test_way_back import SHOP


def written(folder, notify):
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(SHOP) | {"notify": notify}))
    return path


def test_the_short_form_is_one_channel_that_hears_what_needs_people(tmp_path):
    service = load_file(
        written(tmp_path, {"webhook": "hook", "channels": [{"connection": "pager", "kind": "pagerduty"}]})
    )
    assert service.notify.all == (Channel(connection="hook"), Channel(connection="pager", kind="pagerduty"))
    assert [event for event in SEVERITY if service.notify.all[0].hears(event)] == list(NEED_PEOPLE)
    assert set(SEVERITY) - set(NEED_PEOPLE) == {"started", "finished"}
    assert {"hook", "pager"} <= connections(service)  # a triggerer fetches them beforehand
    assert load_way_back(tmp_path / "shop.yaml").notify == service.notify
    assert Notify().all == ()


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie"])
def test_where_alerts_are_opened_their_end_is_heard_of_too(kind):
    channel = Channel(connection="pager", kind=kind, events=("stranded",))
    assert {event for event in SEVERITY if channel.hears(event)} == {"stranded", *ENDS}


@pytest.mark.parametrize(
    ("notify", "key", "said"),
    [
        ({"channels": [{"connection": "c", "kind": "slack"}]}, "notify.channels[0].kind", "pagerduty"),
        ({"channels": [{"connection": "c", "events": ["ended"]}]}, "notify.channels[0].events[0]", "finished"),
        ({"channels": [{"connection": "c", "events": []}]}, "notify.channels[0].events", "1"),
        ({"channels": [{"connection": "c", "events": ["started"] * 2}]}, "notify.channels[0].events", "twice"),
        ({"channels": [{"kind": "webhook"}]}, "notify.channels[0].connection", "missing"),
        (
            {"channels": [{"connection": "slack://a/b/c", "kind": "apprise"}]},
            "notify.channels[0].connection",
            "allowed the id",
        ),
        ({"channels": [{"connection": "c"}, {"connection": "c"}]}, "notify", "connection of its own"),
        ({"webhook": "c", "channels": [{"connection": "c"}]}, "notify", "connection of its own"),
    ],
)
def test_what_cannot_be_is_refused_by_key(tmp_path, notify, key, said):
    with pytest.raises(CatalogError) as refused:
        load_file(written(tmp_path, notify))
    assert refused.value.key == key
    assert said in str(refused.value)


def test_a_deadline_is_a_duration(tmp_path):
    told = yaml.safe_load(SHOP)
    path = tmp_path / "shop.yaml"
    path.write_text(yaml.safe_dump(told | {"release": told["release"] | {"deadline": "2h"}}))
    assert load_file(path).release.deadline.total_seconds() == 7200
    for key, found, allowed in (
        ("deadline", "0s", "greater than or equal to 1 seconds"),
        ("keep_old", "9999d", "less than or equal to 3650 days"),
    ):
        path.write_text(yaml.safe_dump(told | {"release": told["release"] | {key: found}}))
        with pytest.raises(CatalogError, match=rf"release\.{key}: found '{found}', allowed {allowed}"):
            load_file(path)
