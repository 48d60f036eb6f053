"""The files in cluster/ beside KubeRay's: what Ray's own validation, bash, and our option parser say of them."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from alt_ray.arguments import arguments_of, parsed
from alt_ray.config import LabelOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.config_train import TrainJobOptions
from alt_ray.config_tune import TuneOptions

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
KINDS: dict[str, type[Any]] = {
    "label": LabelOptions,
    "encode": EncodeOptions,
    "relabel": RelabelOptions,
    "train": TrainJobOptions,
    "tune": TuneOptions,
}
SLURM = [CLUSTER / "slurm" / name for name in ("cluster.sbatch", "shards.sbatch")]
DOCUMENTS = [CLUSTER / "README.md", *SLURM]


def parse(command: str, arguments: list[str]) -> Any:
    return parsed(KINDS[command], arguments_of(KINDS[command], arguments, has_default=command == "label")[0], command)


@pytest.mark.parametrize("name", ["aws", "local"])
def test_ray_takes_the_launcher_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((CLUSTER / "launcher" / f"{name}.yaml").read_text())
    whole = prepare_config(config)
    validate_config(whole)
    for role in ("head", "worker"):
        (start,) = [line for line in config[f"{role}_start_ray_commands"] if "ray start" in line]
        assert "RAY_AUTH_MODE=token" in start
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
    image = yaml.safe_load((CLUSTER / "kuberay/base/raycluster.yaml").read_text())["spec"]["headGroupSpec"]
    assert config["docker"]["image"] == image["template"]["spec"]["containers"][0]["image"]


def test_what_ray_does_not_take_is_found() -> None:
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((CLUSTER / "launcher/aws.yaml").read_text())
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config({**prepare_config(config), "idle_timeout": 5})


def test_on_aws_workers_are_spot_machines_and_the_head_is_not_and_runs_no_work() -> None:
    config = yaml.safe_load((CLUSTER / "launcher/aws.yaml").read_text())
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0 and "InstanceMarketOptions" not in head["node_config"]
    assert all(own["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot" for own in types.values())
    assert sorted(own["resources"].get("GPU", 0) for own in types.values()) == [0, 1]
    assert sum(own["max_workers"] for own in types.values()) == config["max_workers"]
    assert not re.search("AKIA|aws_access_key|password", (CLUSTER / "launcher/aws.yaml").read_text(), re.IGNORECASE)


@pytest.mark.parametrize("script", SLURM, ids=lambda script: script.name)
def test_a_slurm_script_is_warned_before_its_limit_and_queued_again(script: Path) -> None:
    lines = re.findall(r"^#SBATCH (.*)$", script.read_text(), re.MULTILINE)
    assert {"--signal=B:TERM@120", "--requeue", "--open-mode=append"} <= set(lines)


@pytest.mark.parametrize("script", [*SLURM, CLUSTER / "slurm/ray.sh"], ids=lambda script: script.name)
def test_bash_takes_the_script(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=60)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not on this machine")
def test_shellcheck_has_nothing_to_say() -> None:
    scripts = [str(script.relative_to(ROOT)) for script in [*SLURM, CLUSTER / "slurm/ray.sh"]]
    run = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "")


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """The jobs that a document shows how to run: (command, arguments)."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if match := re.search(r"jobs/(\w+)\.py (.*)", line):
            found.append((match[1], shlex.split(match[2].strip("`"))))
        elif match := re.search(r"sbatch .*cluster\.sbatch (\w+) (.*)", line):
            found.append((match[1], shlex.split(match[2])))
        elif match := re.search(r"sbatch .*shards\.sbatch (\w+) (\S+) (.*)", line):
            found.append((match[1], [*shlex.split(match[3]), "--shard", "0/16", "--out", match[2]]))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_command_that_is_shown_is_one_that_its_parser_takes(document: Path) -> None:
    commands = commands_in(document.read_text())
    assert commands
    for command, arguments in commands:
        parse(command, arguments)


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (CLUSTER / "README.md").read_text())
    assert len(links) > 5
    for link in links:
        assert link.startswith("http") or (CLUSTER / link).exists(), link


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps a file or folder of the project from the builder: the last pattern that fits decides."""
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.lstrip("!")
        if pattern == "*" or name == pattern or name.startswith(f"{pattern}/"):
            result = not line.startswith("!")
    return result


def test_the_image_is_made_of_files_that_are_there_and_are_sent() -> None:
    text = (CLUSTER / "Dockerfile").read_text().replace("${WEIGHTS}", "cluster/weights")
    copies = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    sources = [source for *sources, _ in copies for source in sources]
    assert {"alt_ray", "jobs", "constraints.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source
    assert ignored("docs") and ignored("demo") and ignored(".venv")
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
    assert all(any(f"{folder}/".startswith(f"{source}/") for source in sources) for folder in folders)


def test_the_image_runs_as_nobody_special_and_login_shells_find_ray() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["1000"]
    assert "/opt/alt-ray/bin" in text.split("profile.d")[0].rsplit("echo", 1)[1]  # KubeRay: bash -lc "ray start ..."
    assert re.search(r'^ENTRYPOINT \["tini"', text, re.MULTILINE)


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not on this machine")
def test_hadolint_has_nothing_to_say() -> None:
    run = subprocess.run(["hadolint", str(CLUSTER / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "")
