"""The files of launch/cluster/: Ray's own schema, what KubeRay asks for, and one image for all."""

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from r2search import __version__
from r2search.cli import build_parser

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "launch" / "cluster"
FILES = {path.name: path.read_text(encoding="utf-8") for path in CLUSTER.iterdir()}
PYTHON = "py311"  # of constraints.txt


def load(name: str) -> Any:
    return yaml.safe_load(FILES[name])


# Ray's cluster launcher


@pytest.mark.parametrize("name", ["aws.yaml", "onpremise.yaml"])
def test_ray_up_accepts_the_file(name: str) -> None:
    validate_config(prepare_config(load(name)))


def test_the_schema_of_ray_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(load("aws.yaml") | {"hed_node_type": "head"}))


@pytest.mark.parametrize("name", ["aws.yaml", "onpremise.yaml"])
def test_every_ray_that_is_started_asks_for_the_token(name: str) -> None:
    config = load(name)
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert any(path.endswith("/.ray/auth_token") for path in config["file_mounts"])


def test_the_head_on_aws_trains_nothing_and_all_workers_are_there_from_the_start() -> None:
    nodes = load("aws.yaml")["available_node_types"]
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert nodes["worker"]["min_workers"] == nodes["worker"]["max_workers"]


# KubeRay: the part of its definitions (ray.io/v1) that we use; what is not in it is a mistake.


def obj(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


STRING, INTEGER = {"type": "string"}, {"type": "integer"}
STRINGS = {"type": "object", "additionalProperties": STRING}
CONTAINER = obj(
    {"name": STRING, "image": STRING, "resources": obj({"requests": STRINGS, "limits": STRINGS})},
    env=array(obj({"name": STRING, "value": STRING})),
    ports=array(obj({"containerPort": INTEGER, "name": STRING})),
    volumeMounts=array(obj({"name": STRING, "mountPath": STRING})),
)
VOLUME = obj(
    {"name": STRING},
    persistentVolumeClaim=obj({"claimName": STRING}),
    emptyDir=obj({}, medium=STRING, sizeLimit=STRING),
)
POD = obj({"spec": obj({"containers": array(CONTAINER)}, volumes=array(VOLUME))})
GROUP = {"rayStartParams": STRINGS, "template": POD}
SIZES = {"replicas": INTEGER, "minReplicas": INTEGER, "maxReplicas": INTEGER}
RAYCLUSTER = obj(
    {
        "rayVersion": STRING,
        "headGroupSpec": obj(GROUP),
        "workerGroupSpecs": array(obj({"groupName": STRING, **SIZES, **GROUP})),
    },
    authOptions=obj({"mode": {"enum": ["token", "disabled"]}}),
)
RAYJOB = obj(
    {"entrypoint": STRING, "rayClusterSpec": RAYCLUSTER},
    runtimeEnvYAML=STRING,
    backoffLimit=INTEGER,
    submitterConfig=obj({"backoffLimit": INTEGER}),
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=INTEGER,
)
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[-a-z0-9])?$", "maxLength": 40}


def resource(kind: str, spec: dict[str, Any], named: str) -> dict[str, Any]:
    fields = {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": kind}}
    return obj({**fields, "metadata": obj({named: NAME}), "spec": spec})


SCHEMAS = {
    "raycluster.yaml": resource("RayCluster", RAYCLUSTER, "name"),
    "rayjob.yaml": resource("RayJob", RAYJOB, "generateName"),
}


def spec_of(name: str) -> Any:
    spec = load(name)["spec"]
    return spec.get("rayClusterSpec", spec)


@pytest.mark.parametrize("name", SCHEMAS)
def test_kuberay_knows_every_field(name: str) -> None:
    jsonschema.validate(load(name), SCHEMAS[name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_volume_of_a_pod_is_there_and_used(name: str) -> None:
    spec = spec_of(name)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        used = {mount["name"] for box in pod["containers"] for mount in box["volumeMounts"]}
        assert used == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_cluster_has_one_ray_a_token_and_a_fixed_number_of_workers(name: str) -> None:
    spec = spec_of(name)
    assert spec["rayVersion"] == ray.__version__
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]


def test_the_job_and_the_cluster_are_the_same_cluster() -> None:
    assert spec_of("rayjob.yaml") == spec_of("raycluster.yaml")


def test_the_job_of_kubernetes_runs_a_study_as_submitting_does() -> None:
    pytest.importorskip("aiohttp", reason="the extra `cluster` is not installed")
    from r2search.tuning.jobs import JOB_ENV

    spec = load("rayjob.yaml")["spec"]
    first, python, script, *words = shlex.split(spec["entrypoint"])
    assert (first, python) == ("exec", "python")
    assert script.endswith("/launch/tune.py")
    options = build_parser().parse_args(["tune", *words])
    assert options.out.startswith("/shared/")
    assert yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"] == JOB_ENV
    assert spec["backoffLimit"] == 0


# One Ray, one Python, one place for what is to be filled in


@pytest.mark.parametrize("name", FILES)
def test_images_are_rays_own_or_built_from_the_dockerfile(name: str) -> None:
    found = re.findall(r"(?:image: |FROM |-t )(\S+/\S+)", FILES[name])
    ours, rays = f"REGISTRY/r2search:{__version__}", f"rayproject/ray:{ray.__version__}-{PYTHON}"
    assert found or name == "onpremise.yaml"
    assert set(found) <= {ours, rays, f"{rays}-gpu", f"{rays}-gpu."}


def test_the_image_has_what_the_job_runs_and_the_tested_packages() -> None:
    text = FILES["Dockerfile"]
    assert "-c constraints.txt -e '.[search,cluster]'" in text
    for line in re.findall(r"^COPY --chown=ray (.*)$", text, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)
    entrypoint = shlex.split(load("rayjob.yaml")["spec"]["entrypoint"])[2]
    folder = re.findall(r"^WORKDIR (\S+)$", text, re.MULTILINE)[-1]
    assert (ROOT / Path(entrypoint).relative_to(folder)).is_file()


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_how_it_is_used(name: str) -> None:
    head = FILES[name].partition("\n\n")[0]
    assert head.startswith("#")
    assert f"launch/cluster/{name}" in head or "launch/cluster/Dockerfile" in head
