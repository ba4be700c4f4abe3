"""The files for clusters: whole by a strict hand-held schema, and every command in them exists with its options."""

import json
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sem_search.cli.main import commands
from sem_search.errors import SettingsError
from sem_search.settings import build_settings

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
JOBS = ("search", "workers")
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
QUANTITY = r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$"
NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


class Strict(BaseModel):
    """A part of a Kubernetes object; a field that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid")


class SecretRef(Strict):
    name: str = Field(pattern=NAME)


class EnvFrom(Strict):
    secretRef: SecretRef


class EnvVariable(Strict):
    name: str = Field(pattern=r"^[A-Z_]+$")
    value: str


class Amounts(Strict):
    cpu: str | None = Field(None, pattern=QUANTITY)
    memory: str | None = Field(None, pattern=QUANTITY)
    storage: str | None = Field(None, pattern=QUANTITY)


class Resources(Strict):
    requests: Amounts
    limits: Amounts | None = None


class Mount(Strict):
    name: str = Field(pattern=NAME)
    mountPath: str = Field(pattern=r"^/")


class Container(Strict):
    name: str = Field(pattern=NAME)
    image: str
    command: list[str] = Field(min_length=1)
    env: list[EnvVariable] = []
    envFrom: list[EnvFrom] = []
    resources: Resources
    volumeMounts: list[Mount]


class Claim(Strict):
    claimName: str = Field(pattern=NAME)


class EmptyDir(Strict):
    sizeLimit: str = Field(pattern=QUANTITY)


class Volume(Strict):
    name: str = Field(pattern=NAME)
    persistentVolumeClaim: Claim | None = None
    emptyDir: EmptyDir | None = None


class SecurityContext(Strict):
    fsGroup: int


class PodSpec(Strict):
    securityContext: SecurityContext | None = None
    restartPolicy: str = Field(pattern="^(Never|OnFailure)$")
    terminationGracePeriodSeconds: int | None = None
    containers: list[Container] = Field(min_length=1)
    volumes: list[Volume]


class Template(Strict):
    spec: PodSpec


class JobSpec(Strict):
    backoffLimit: int | None = Field(None, ge=0)
    backoffLimitPerIndex: int | None = Field(None, ge=0)
    completionMode: str | None = Field(None, pattern="^Indexed$")
    completions: int | None = Field(None, ge=1)
    parallelism: int | None = Field(None, ge=1)
    ttlSecondsAfterFinished: int | None = Field(None, ge=0)
    template: Template


class Metadata(Strict):
    name: str = Field(pattern=NAME, max_length=63)
    namespace: str = Field(pattern=NAME)


class Job(Strict):
    apiVersion: str = Field(pattern="^batch/v1$")
    kind: str = Field(pattern="^Job$")
    metadata: Metadata
    spec: JobSpec


class ClaimSpec(Strict):
    accessModes: list[str]
    resources: Resources


class PersistentVolumeClaim(Strict):
    apiVersion: str = Field(pattern="^v1$")
    kind: str = Field(pattern="^PersistentVolumeClaim$")
    metadata: Metadata
    spec: ClaimSpec


def read_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load((KUBERNETES / name).read_text(encoding="utf-8"))


@pytest.fixture
def fill_in(monkeypatch: pytest.MonkeyPatch):
    """MLflow's own function that fills in a job; the libraries that talk to Docker and Kubernetes stay away."""
    for name in ("docker", "kubernetes", "kubernetes.config", "kubernetes.config.config_exception"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["kubernetes.config.config_exception"].ConfigException = OSError
    monkeypatch.delitem(sys.modules, "mlflow.projects.kubernetes", raising=False)
    from mlflow.projects.kubernetes import _get_kubernetes_job_definition, _get_run_command

    def fill_in(job: str, *, entry_point: str) -> dict[str, Any]:
        project = read_yaml("MLproject")
        return _get_kubernetes_job_definition(
            project["name"],
            "registry.example.org/sem-search",
            "sha256:0",
            _get_run_command([project["entry_points"][entry_point]["command"]]),
            {"MLFLOW_RUN_ID": "0"},
            read_yaml(job),
        )

    yield fill_in
    sys.modules.pop("mlflow.projects.kubernetes", None)


@pytest.mark.parametrize(("job", "entry_point"), [("search-job.yaml", "main"), ("workers-job.yaml", "worker")])
def test_a_job_that_mlflow_has_filled_in_is_whole(fill_in, job: str, entry_point: str) -> None:
    filled = Job.model_validate(fill_in(job, entry_point=entry_point))
    spec = filled.spec.template.spec
    (container,) = spec.containers
    assert container.command[0] == "sem-search"
    assert {mount.name for mount in container.volumeMounts} == {volume.name for volume in spec.volumes}
    is_indexed = filled.spec.completionMode == "Indexed"
    assert is_indexed == (entry_point == "worker")
    assert (filled.spec.completions == filled.spec.parallelism) and (filled.spec.completions or 1) >= 1
    assert (filled.spec.backoffLimitPerIndex is not None) == is_indexed, "Kubernetes takes it for indexed jobs alone"


def test_the_schema_is_strict(fill_in) -> None:
    broken = fill_in("workers-job.yaml", entry_point="worker")
    broken["spec"]["completion"] = 8
    with pytest.raises(ValidationError, match="completion"):
        Job.model_validate(broken)


def test_the_shared_volume_is_whole_and_the_one_that_the_jobs_mount() -> None:
    claim = PersistentVolumeClaim.model_validate(read_yaml("shared.yaml"))
    assert claim.spec.accessModes == ["ReadWriteMany"]
    for job in JOBS:
        text = (KUBERNETES / f"{job}-job.yaml").read_text(encoding="utf-8")
        assert f"claimName: {claim.metadata.name}\n" in text
        assert f"namespace: {claim.metadata.namespace}\n" in text


@pytest.mark.parametrize("job", JOBS)
def test_backend_configs_name_files_that_exist(job: str) -> None:
    config = json.loads((KUBERNETES / f"{job}.json").read_text(encoding="utf-8"))
    assert set(config) == {"kube-context", "repository-uri", "kube-job-template-path"}
    assert (ROOT / config["kube-job-template-path"]).is_file()


def check_sem_search(words: list[str]) -> None:
    """Raise unless this is a command of ours with options that it has."""
    command = commands.commands[words[0]]
    known = {name: param for param in command.params for name in param.opts}
    values: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        assert word in known, f"{word} is no option of {words[0]}"
        assert isinstance(known[word], click.Option)
        values[known[word].name] = next(rest)
    missing = {param.name for param in command.params if param.required} - set(values)
    assert not missing, f"{words[0]} needs {missing}"
    if words[0] == "search" and not any("{" in value for value in values.values()):
        build_settings(values)


@pytest.mark.parametrize("entry_point", ["main", "worker"])
def test_entry_points_call_commands_that_exist(entry_point: str) -> None:
    entry = read_yaml("MLproject")["entry_points"][entry_point]
    words = entry["command"].split()
    assert words[0] == "sem-search"
    check_sem_search(words[1:])
    assert set(re.findall(r"\{(\w+)\}", entry["command"])) == set(entry["parameters"])


def test_the_dockerfile_copies_what_there_is_and_runs_as_nobody_special() -> None:
    lines = (KUBERNETES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied and all((ROOT / name).exists() for name in copied)
    assert "USER search" in lines


def test_the_slurm_script_is_bash_and_calls_a_command_that_exists() -> None:
    script = ROOT / "deploy" / "slurm" / "workers.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111
    joined = script.read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = [line for line in joined.splitlines() if line.startswith("exec srun")]
    assert "--cpus-per-task=" in line
    words = shlex.split(line)
    check_sem_search(words[words.index(".venv/bin/sem-search") + 1 :])


def test_the_slurm_script_says_what_it_lacks() -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / "slurm" / "workers.sh")], capture_output=True, text=True, env={"PATH": "/bin"}
    )
    assert done.returncode != 0
    assert "set STUDY to the name that the search printed" in done.stderr


def list_page_commands(program: str) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(program + " ")]


def test_the_page_calls_commands_of_ours_that_exist() -> None:
    found = list_page_commands("sem-search")
    assert {words[0] for words in found} == {"search", "worker"}
    for words in found:
        check_sem_search(words)


def test_the_page_calls_dask_with_options_that_it_has() -> None:
    from distributed.cli.dask_scheduler import main as scheduler
    from distributed.cli.dask_worker import main as worker

    found = list_page_commands("dask")
    assert {words[0] for words in found} == {"scheduler", "worker"}
    for words in found:
        command = {"scheduler": scheduler, "worker": worker}[words[0]]
        known = {name for param in command.params for name in param.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_page_calls_mlflow_with_options_that_it_has() -> None:
    from mlflow.cli import cli

    for words in list_page_commands("mlflow"):
        known = {name for param in cli.commands[words[0]].params for name in (*param.opts, *param.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known
        if words[0] == "run":
            config = words[words.index("--backend-config") + 1]
            assert (ROOT / config).is_file()
            entry = words[words.index("-e") + 1] if "-e" in words else "main"
            given = {words[place + 1].partition("=")[0] for place, word in enumerate(words) if word == "-P"}
            parameters = read_yaml("MLproject")["entry_points"][entry]["parameters"]
            assert {name for name, one in parameters.items() if "default" not in one} <= given <= set(parameters)


def test_the_page_s_python_is_python_and_its_links_lead_somewhere() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "docs/cluster.md", "exec")
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def test_a_cluster_without_a_shared_place_or_with_a_wrong_address_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"cluster=tcp://h:8786 needs shared=FOLDER_OR_URL"):
        build_settings({"cluster": "tcp://h:8786"})
    for address in ("h:8786", "http://h:8786", "tcp://h", "tcp://me:secret@h:1"):
        with pytest.raises(SettingsError, match="is no address of a Dask scheduler, such as tcp://host:8786") as caught:
            build_settings({"cluster": address, "shared": "x"})
        assert "secret" not in str(caught.value)
    assert build_settings({"cluster": "tls://h:8786", "shared": "x"}).cluster == "tls://h:8786"
