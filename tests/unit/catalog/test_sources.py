"""The section ``sources`` of a service file: what it may say, and what is refused before anybody is asked."""

from __future__ import annotations

import pytest
import yaml

from bluegreen.analysis.registry import COUNT_SOURCES
from bluegreen.catalog.load import load_file
from bluegreen.catalog.models import Service
from bluegreen.catalog.schema import service_schema
from bluegreen.catalog.section import connections
from bluegreen.core.errors import CatalogError
from tests.unit.catalog.test_bad_files import GOOD

HITS = {"requests": 'hits{color="$color"}', "errors": 'hits{color="$color",failed="1"}'}
PROMETHEUS = {"type": "prometheus", "url": "http://prometheus:9090", **HITS}
LOKI = {"type": "loki", "url": "http://loki", "lines": '{color="$color"}', "errors": '|= "error"'}
HTTP = {"type": "http", "url": "http://stats/$color?since=$since"}
SQL = {"type": "sql", "connection": "db", "query": "SELECT 1 WHERE :color = :since"}
METRIC = {"namespace": "n", "metric": "m", "dimensions": {"group": "$color"}}
CLOUDWATCH = {"type": "cloudwatch", "region": "eu-west-1", "requests": METRIC, "errors": METRIC}


def loaded(folder, *sources, rules=None):
    file, good = folder / "shop.yaml", yaml.safe_load(GOOD)
    release = good.get("release", {}) | ({"rules": rules} if rules else {})
    file.write_text(yaml.safe_dump(good | {"sources": list(sources), "release": release}))
    return load_file(file)


def test_a_source_is_called_by_its_type_or_its_name(tmp_path):
    service = loaded(tmp_path, PROMETHEUS, LOKI, {**LOKI, "name": "audit"})
    assert [source.name for source in service.sources] == ["prometheus", "loki", "audit"]
    assert Service.model_validate(service.frozen()) == service


def test_a_service_has_none_by_default(tmp_path):
    assert loaded(tmp_path).sources == ()


RULE = {"type": "sequential", "source": "prometheus"}


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            {"source": "prometeus"},
            "no source is called prometeus: allowed are router, prometheus; or add it to sources",
        ),
        (
            {"type": "compared", "metric": "latency_ms"},
            "latency_ms is told by the router only, found source prometheus",
        ),
    ],
)
def test_a_rule_names_one_that_can_tell_it(tmp_path, rule, says):
    with pytest.raises(CatalogError) as error:
        loaded(tmp_path, PROMETHEUS, rules=[RULE | rule])
    assert says in str(error.value)


def test_a_rule_names_a_source_of_the_service(tmp_path):
    assert loaded(tmp_path, PROMETHEUS, rules=[RULE]).release.rules[0].source == "prometheus"
    assert loaded(tmp_path, PROMETHEUS, rules=[{"type": "sequential"}]).release.rules[0].source == "router"


def test_every_kind_has_a_class():
    kinds = service_schema()["properties"]["sources"]["items"]["oneOf"]
    names = [
        service_schema()["$defs"][kind["$ref"].rpartition("/")[2]]["properties"]["type"]["const"] for kind in kinds
    ]
    assert sorted(names) == sorted(COUNT_SOURCES)


def test_the_triggerer_hears_of_each_connection(tmp_path):
    assert {"db", "prom"} <= connections(loaded(tmp_path, SQL, {**PROMETHEUS, "connection": "prom"}))


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ([LOKI, PROMETHEUS, LOKI], "sources: source names must differ, found loki twice: give each a name"),
        ([{**PROMETHEUS, "errors": "hits"}], "sources[0].errors: found 'hits', it does not say $color: both colors"),
        ([{**LOKI, "lines": '{app="x"}'}], "it does not say $color: both colors would be judged alike"),
        ([{**HTTP, "url": "http://stats/$color"}], "url does not say $since: it would count what was before"),
        ([{**HTTP, "url": "http://stats?s=$since"}], "neither url nor both of requests and errors say $color"),
        ([{**SQL, "query": "SELECT :color"}], "it does not say :since; :color, :since and :until are bound"),
        ([{**SQL, "query": "SELECT '$color'"}], "it does not say :color and :since"),
        ([{**CLOUDWATCH, "errors": {**METRIC, "dimensions": {"a": "b"}}}], "it does not say $color"),
        ([{**LOKI, "name": "router"}], "router is how rules call the router itself: give the source another name"),
        ([{"type": "promtheus"}], "sources[0].type: found 'promtheus', allowed cloudwatch, datadog, elasticsearch, graphite"),
        ([{**PROMETHEUS, "tenat": "a"}], "unknown key 'tenat'; did you mean 'tenant'?"),
        ([{**PROMETHEUS, "url": "http://me:hunter2@prometheus"}], "a secret in a service file; secrets only by connection id"),
        ([{"type": "datadog", **HITS}], "sources[0].connection: the key 'connection' is missing"),
        ([{**PROMETHEUS, "timeout": 5}], "sources[0].timeout: found 5, "),
    ],
)  # fmt: skip
def test_a_wrong_source_is_refused_with_what_to_do(tmp_path, sources, says):
    with pytest.raises(CatalogError) as error:
        loaded(tmp_path, *sources)
    assert says in str(error.value)
    assert "hunter2" not in str(error.value)
