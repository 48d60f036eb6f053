"""The KubeRay files: what Kubernetes would refuse or drop, and what only this project knows to be wrong."""

import copy
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from alt_ray.arguments import arguments_of, parsed
from alt_ray.config import LabelOptions
from alt_ray.config_features import EncodeOptions
from alt_ray.config_train import TrainJobOptions
from alt_ray.config_tune import TuneOptions
from tests.crd import FIXTURES, problems, schema_of

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "cluster" / "kuberay"
KINDS: dict[str, type[Any]] = {
    "label": LabelOptions,
    "encode": EncodeOptions,
    "train": TrainJobOptions,
    "tune": TuneOptions,
}
IN_IMAGE = "/app/"  # where cluster/Dockerfile puts the project's jobs
needs_definitions = pytest.mark.skipif(not FIXTURES.is_dir(), reason="KubeRay's definitions are not on this machine")


@cache
def read(name: str) -> Any:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def raycluster() -> dict[str, Any]:
    return copy.deepcopy(read("base/raycluster.yaml")[0])


def rayjob(name: str) -> dict[str, Any]:
    """What `kubectl kustomize cluster/kuberay/NAME` prints, as a test below checks where there is kubectl."""
    job = copy.deepcopy(read("base/rayjob.yaml")[0])
    job["spec"]["rayClusterSpec"] = raycluster()["spec"]
    overlay = read(f"{name}/kustomization.yaml")[0]
    job["metadata"]["name"] += overlay["nameSuffix"]
    (patch,) = overlay["patches"]
    (change,) = yaml.safe_load(patch["patch"])
    assert (change["op"], change["path"]) == ("replace", "/spec/entrypoint")
    job["spec"]["entrypoint"] = change["value"]
    return job


def options_of(name: str) -> Any:
    program, script, *arguments = shlex.split(rayjob(name)["spec"]["entrypoint"])
    assert (program, script) == ("python", f"{IN_IMAGE}jobs/{name}.py")
    here = [argument.replace(IN_IMAGE, f"{ROOT}/") for argument in arguments]
    return parsed(KINDS[name], arguments_of(KINDS[name], here, has_default=False)[0], name)


def groups() -> list[dict[str, Any]]:
    return list(raycluster()["spec"]["workerGroupSpecs"])


def pods() -> list[dict[str, Any]]:
    """The pod specs: the head's, then those of the groups."""
    spec = raycluster()["spec"]
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping within a value, at any depth."""
    if isinstance(value, dict):
        yield value
    for own in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(own)


@needs_definitions
def test_the_cluster_is_what_the_definition_of_kuberay_says() -> None:
    assert problems(raycluster(), schema_of("RayCluster")) == []


@needs_definitions
def test_every_job_is_what_the_definition_of_kuberay_says() -> None:
    schema = schema_of("RayJob")
    for name in KINDS:
        assert problems(rayjob(name), schema) == [], name


@needs_definitions
def test_a_misspelt_field_and_a_wrong_value_are_found() -> None:
    job = rayjob("label")
    job["spec"]["backofLimit"] = 5
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][1]["template"]["spec"]["tolerations"][3]["effects"] = "NoSchedule"
    job["spec"]["ttlSecondsAfterFinished"] = "soon"
    found = "\n".join(problems(job, schema_of("RayJob")))
    assert ".spec.backofLimit: no such field" in found
    assert "workerGroupSpecs[1].template.spec.tolerations[3].effects: no such field" in found
    assert "'soon' is not of type 'integer'" in found
    assert len(found.splitlines()) == 3


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
@pytest.mark.parametrize("name", KINDS)
def test_kustomize_makes_of_a_folder_what_these_tests_look_at(name: str) -> None:
    run = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / name)], capture_output=True, text=True, check=True, timeout=60
    )
    assert list(yaml.safe_load_all(run.stdout)) == [rayjob(name)]


@pytest.mark.parametrize("name", KINDS)
def test_every_command_is_one_that_its_parser_takes(name: str) -> None:
    options = options_of(name)
    assert options.out.startswith("s3://")
    if name == "train":
        assert options.uses_ray and options.workers == options.cluster.wait_for_gpus
    for argument in shlex.split(rayjob(name)["spec"]["entrypoint"]):
        if argument.startswith(IN_IMAGE):
            assert (ROOT / argument.removeprefix(IN_IMAGE)).is_file(), argument


def test_the_label_file_of_the_command_is_one_that_is_mounted() -> None:
    labels = Path(options_of("label").labels)
    for pod in pods():
        (mount,) = [own for own in pod["containers"][0]["volumeMounts"] if own["mountPath"] == str(labels.parent)]
        (volume,) = [own for own in pod["volumes"] if own["name"] == mount["name"]]
        assert labels.name in [item["path"] for item in volume["configMap"]["items"]]


@pytest.mark.parametrize("name", KINDS)
def test_a_job_asks_for_no_more_machines_than_there_may_be(name: str) -> None:
    most = {"cpu": 0, "nvidia.com/gpu": 0}
    for group in groups():
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for kind in most:
            most[kind] += group["maxReplicas"] * int(limits.get(kind, 0))
    cluster = options_of(name).cluster
    assert (cluster.wait_for_cpus or 1) <= most["cpu"] and (cluster.wait_for_gpus or 0) <= most["nvidia.com/gpu"]
    if name in ("label", "encode"):
        assert (cluster.max_cpus, cluster.max_gpus) == (most["cpu"], most["nvidia.com/gpu"])


def test_every_secret_and_setting_that_is_referred_to_is_in_the_example() -> None:
    example = {(own["kind"], own["metadata"]["name"]): own for own in read("settings.example.yaml")}
    kinds = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}
    referred = set()
    for mapping in mappings(raycluster()):
        for reference, kind in kinds.items():
            if reference in mapping:
                referred.add((kind, mapping[reference]["name"], mapping[reference]["key"]))
        if "configMap" in mapping:
            referred |= {
                ("ConfigMap", mapping["configMap"]["name"], own["key"]) for own in mapping["configMap"]["items"]
            }
    declared = {
        (kind, name, key)
        for (kind, name), own in example.items()
        for key in {**own.get("data", {}), **own.get("stringData", {})}
    }
    assert referred == declared
    assert {pod["serviceAccountName"] for pod in pods()} == {name for kind, name in example if kind == "ServiceAccount"}


def test_no_secret_is_written_down() -> None:
    for mapping in mappings(raycluster()):
        if re.search("KEY|SECRET|TOKEN|PASSWORD|URI", str(mapping.get("name", ""))):
            assert "value" not in mapping, mapping
    for own in read("settings.example.yaml"):
        assert all(value.startswith("<") for value in own.get("stringData", {}).values())
        assert own["kind"] != "Secret" or "data" not in own


def test_the_head_runs_no_work_and_stands_on_no_spot_machine_and_the_workers_do() -> None:
    spec = raycluster()["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"

    def terms(pod: dict[str, Any]) -> list[dict[str, Any]]:
        affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        return [own for term in affinity["nodeSelectorTerms"] for own in term["matchExpressions"]]

    head, *workers = pods()
    assert {own["operator"] for own in terms(head)} == {"NotIn"}
    for worker in workers:
        assert [{**own, "operator": "NotIn"} for own in terms(worker)] == terms(head)
        assert {own["operator"] for own in terms(worker)} == {"In"}
        assert any("spot" in own["key"] for own in worker["tolerations"])


def test_machines_come_and_go_and_ray_asks_for_a_token() -> None:
    spec = raycluster()["spec"]
    assert spec["enableInTreeAutoscaling"] and spec["authOptions"] == {"mode": "token"}
    assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in groups())
    gpus = ["nvidia.com/gpu" in group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in groups()]
    assert sorted(gpus) == [False, True]


def test_pods_have_what_they_ask_for_shared_memory_and_time_to_end() -> None:
    images = set()
    for pod in pods():
        (container,) = pod["containers"]
        images.add(container["image"])
        assert container["resources"]["requests"] == container["resources"]["limits"]
        shared = [own["name"] for own in container["volumeMounts"] if own["mountPath"] == "/dev/shm"]
        (volume,) = [own for own in pod["volumes"] if own["name"] in shared]
        assert volume["emptyDir"]["medium"] == "Memory"
        assert pod["terminationGracePeriodSeconds"] >= 60
        assert pod["securityContext"]["runAsNonRoot"]
    assert len(images) == 1
    (version,) = re.findall(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert raycluster()["spec"]["rayVersion"] == version


@pytest.mark.parametrize("name", KINDS)
def test_a_job_is_started_again_and_leaves_nothing_running(name: str) -> None:
    spec = rayjob(name)["spec"]
    assert spec["backoffLimit"] > 0 and spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] > 0
    assert spec["submissionMode"] == "K8sJobMode"
