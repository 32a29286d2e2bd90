"""Kubernetes manifests render and fit their schemas; alert rules and their unit tests pass; the dashboard asks for metrics that exist."""

import json
import re

import kubernetes_validate
import pytest
import yaml

from conftest import ROOT, SERVICES, run


def render(overlay: str) -> list[dict]:
    return list(yaml.safe_load_all(run("kubectl", "kustomize", ROOT / "deploy/kubernetes" / overlay)))


@pytest.mark.parametrize("overlay", ["cpu", "cuda"])
def test_manifests_fit_their_schemas(overlay):
    documents = render(overlay)
    for document in documents:
        kubernetes_validate.validate(document, "1.33", strict=True)
    deployments = {d["metadata"]["name"]: d["spec"]["template"]["spec"]["containers"][0] for d in documents if d["kind"] == "Deployment"}
    assert set(deployments) == {f"easel-{s}" for s in SERVICES}
    for stage in ("sampler", "decoder", "ranker"):
        container = deployments[f"easel-{stage}"]
        assert {"name": "EASEL_DEVICE", "value": overlay} in container["env"]
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay == "cuda")
    for container in deployments.values():
        assert container["readinessProbe"]["grpc"]["port"] == 50050 and container["resources"]["requests"]
    assert {d["metadata"]["name"] for d in documents if d["kind"] == "PodDisruptionBudget"} == set(deployments)
    namespaces = [d["metadata"]["name"] for d in documents if d["kind"] == "Namespace"]
    assert {d["metadata"]["namespace"] for d in documents if d["kind"] != "Namespace"} == set(namespaces) and len(namespaces) == 1


def test_environment_names_are_those_of_the_services():
    sources = [*(ROOT / "services").glob("*/src/config.rs"), ROOT / "crates/server/src/config.rs"]
    known = {name for source in sources for name in re.findall(r'env = "(EASEL_[A-Z_]+)"', source.read_text())}
    set_here = set(re.findall(r"\bENV (.*)", (ROOT / "deploy/Containerfile").read_text()))
    names = {name for line in set_here for name in re.findall(r"(EASEL_[A-Z_]+)=", line)}
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    names |= {name for service in compose["services"].values() for name in service.get("environment", {})}
    for overlay in ("cpu", "cuda"):
        for document in render(overlay):
            names |= set(document.get("data", {}))
            if document["kind"] == "Deployment":
                names |= {e["name"] for e in document["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert names and names <= known, names - known


def test_alert_rules_and_configuration():
    folder = ROOT / "deploy/prometheus"
    run("promtool", "check", "rules", folder / "alerts.yaml")
    run("promtool", "test", "rules", folder / "alerts_test.yaml")
    run("promtool", "check", "config", folder / "prometheus.yaml")


def test_rules_and_dashboard_ask_for_metrics_that_exist():
    source = (ROOT / "crates/server/src/telemetry/names.rs").read_text()
    known = {name.replace(".", "_") for name in re.findall(r'"(easel\.[a-z_.]+)"', source)}
    dashboard = json.loads((ROOT / "deploy/grafana/easel.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    for name in re.findall(r"easel_[a-z_]+", " ".join(asked)):
        plain = re.sub(r"(_seconds)?(_bucket|_sum|_count|_total)?$", "", name)
        assert {name, plain} & known, name
