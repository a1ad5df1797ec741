"""Dashboards, alerts and what carries the metrics: they name what is emitted, and all of it."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest
import yaml

from schemas.metrics import CATALOGUE, Counter, Histogram, Observed

promql_parser = pytest.importorskip("promql_parser")

SUFFIXES = {"s": "seconds", "By": "bytes"}
# labels that the translation makes of the resource, and of a bucket's bound
COMMON = {"job", "instance", "le"}


def translated(metric):
    """Return the names under which Prometheus has a metric, as its OTLP receiver makes them.

    Dots become underscores; the unit is appended, but an annotation in braces is not; then what follows from the kind.
    """
    assert metric.unit in SUFFIXES or re.fullmatch(r"\{\w+\}", metric.unit), metric.unit
    unit = SUFFIXES.get(metric.unit)
    name = "_".join([metric.name.replace(".", "_")] + [unit] * (unit is not None))
    if isinstance(metric, Histogram):
        return {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    sums = isinstance(metric, Counter) or (isinstance(metric, Observed) and metric.of == "counter")
    return {f"{name}_total" if sums else name}


METRICS = {name: metric for metric in CATALOGUE.values() for name in translated(metric)}


def labels_of(metric):
    return {attribute.name.replace(".", "_") for attribute in metric.attributes} | COMMON


@pytest.fixture(scope="module")
def dashboard(root):
    (path,) = (root / "deploy" / "observability" / "dashboards").glob("*.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def alerts(root):
    content = yaml.safe_load((root / "deploy" / "observability" / "alerts.yaml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="module")
def queries(panels, alerts):
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in alerts]


def read_file(root, *names):
    return yaml.safe_load(root.joinpath("deploy", "observability", *names).read_text())


def parse(query):
    return promql_parser.parse(query.replace("$__rate_interval", "1m").replace("$instance", ".*"))


def nodes(node, within=""):
    """Yield each part of a query with the function whose argument it is."""
    yield node, within
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if getattr(node, name, None) is not None:
            yield from nodes(getattr(node, name), within)
    for argument in getattr(node, "args", []):
        yield from nodes(argument, node.func.name)


def selectors(query):
    """Return each metric of a query with the labels that it is selected by and the function that it is given to."""
    found = [(node, within) for node, within in nodes(parse(query)) if isinstance(node, promql_parser.VectorSelector)]
    return [(node.name, {matcher.name for matcher in node.matchers.matchers}, within) for node, within in found]


def grouped(query):
    aggregates = [node for node, _ in nodes(parse(query)) if isinstance(node, promql_parser.AggregateExpr)]
    return {label for node in aggregates if node.modifier is not None for label in node.modifier.labels}


def test_translation_of_names_follows_the_rules():
    assert translated(CATALOGUE["signalbox.records.read"]) == {"signalbox_records_read_total"}
    assert translated(CATALOGUE["signalbox.watermark.lag"]) == {"signalbox_watermark_lag_seconds"}
    assert translated(CATALOGUE["signalbox.source.lag.records"]) == {"signalbox_source_lag_records"}
    assert translated(CATALOGUE["process.cpu.time"]) == {"process_cpu_time_seconds_total"}
    assert "signalbox_snapshot_size_bytes_bucket" in translated(CATALOGUE["signalbox.snapshot.size"])


def test_queries_parse(queries):
    assert len(queries) > 40
    for query in queries:
        parse(query)
    with pytest.raises(ValueError, match="unclosed"):
        parse("sum(rate(x[5m])")


def test_queries_name_the_metrics_of_the_catalogue_and_all_of_them(queries):
    used = {name for query in queries for name, _, _ in selectors(query)}
    assert used <= set(METRICS)
    assert {METRICS[name].name for name in used} == set(CATALOGUE)


def test_queries_name_labels_that_their_metrics_have(queries):
    for query in queries:
        found = selectors(query)
        assert found, query
        for name, chosen, _ in found:
            assert chosen | grouped(query) <= labels_of(METRICS[name]), query


def test_queries_take_rates_of_sums_and_quantiles_of_buckets(queries):
    for query in queries:
        for name, _, within in selectors(query):
            summed = name.endswith(("_total", "_bucket", "_count"))
            assert (within in ("rate", "increase")) == summed, query
        assert ("histogram_quantile" in query) == ("_bucket" in query)


def test_panels_have_a_place_a_meaning_and_a_legend(dashboard, panels, root):
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    sources = {source["uid"] for source in read_file(root, "grafana", "datasources.yaml")["datasources"]}
    taken = set()
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= sources
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown == grouped(target["expr"]) - {"le"}, panel["title"]


@pytest.mark.parametrize(
    "title",
    ["Records in", "Rows out", "Waiting in the topics", "Watermark behind the wall clock", "From arrival to stored row",
     "Late records", "Dead letters", "Order violations", "Rows stored", "Inserts, retries and errors",
     "Time between snapshots", "Time of a snapshot", "Memory", "Processor"],
)  # fmt: skip
def test_dashboard_shows(panels, title):
    assert title in {panel["title"] for panel in panels}


def test_dashboard_is_where_grafana_looks(root, compose, dashboard):
    (provider,) = read_file(root, "grafana", "dashboards.yaml")["providers"]
    grafana = compose["services"]["grafana"]
    folder = provider["options"]["path"]
    assert f"./deploy/observability/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/{dashboard['uid'].removeprefix('signalbox-')}.json"


def test_alerts_say_how_bad_what_and_where_to_read(alerts, root):
    headings = re.findall(r"^### (\w+)$", (root / "docs" / "operations.md").read_text(), re.MULTILINE)
    names = [rule["alert"] for rule in alerts]
    assert len(set(names)) == len(names) >= 8
    assert [heading for heading in headings if heading.startswith("Signalbox")] == names
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert shown <= grouped(rule["expr"]), rule["alert"]


def test_prometheus_takes_the_metrics_and_the_rules(root, compose):
    prometheus, service = read_file(root, "prometheus.yaml"), compose["services"]["prometheus"]
    assert prometheus["otlp"]["translation_strategy"] == "UnderscoreEscapingWithSuffixes"
    assert "--web.enable-otlp-receiver" in service["command"]
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    assert set(prometheus["rule_files"]) <= mounted


def test_addresses_within_the_deployment_name_services(root, compose):
    collector = read_file(root, "otel-collector.yaml")
    urls = [exporter["endpoint"] for exporter in collector["exporters"].values()]
    urls += [source["url"] for source in read_file(root, "grafana", "datasources.yaml")["datasources"]]
    assert {urlsplit(url).hostname for url in urls} == {"prometheus", "tempo"} <= set(compose["services"])
    assert urlsplit(collector["exporters"]["otlp_http/prometheus"]["endpoint"]).path == "/api/v1/otlp"


def test_collector_takes_what_signalbox_is_told_to_export(root):
    collector = read_file(root, "otel-collector.yaml")
    pipelines = collector["service"]["pipelines"]
    assert set(pipelines) == {"metrics", "traces"}
    for name in ("signalbox.toml", "kubernetes/signalbox.toml"):
        assert "\nlogs = false\n" in (root / "deploy" / name).read_text()
    for pipeline in pipelines.values():
        assert pipeline["processors"][0] == "memory_limiter"
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])
