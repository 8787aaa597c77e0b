"""What containers are given: no root, no rights, no writable root, loopback only, nothing unpinned, no secret inside.

The files are read, not run: no container engine is needed here, and none is started.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from crrg.config.base import Settings
from deployments.bootstrap import IDENTIFIED_POOL, NIGHT_POOL, POOL
from deployments.services import IDENTIFIED_ENV, LEASE_STORAGE, QUIET_ENV

HANDED_ON = re.compile(r"MAX_|DECODER_|MEMORY_MIB|PRINCIPAL|AWS_REGION")
SECRETS = re.compile(r"PASSWORD|SECRET|AUTH_STRING|HMAC_KEY$|TOKEN|ACCESS_KEY")


@pytest.fixture(scope="module")
def folder(checkout: Path) -> Path:
    return checkout / "deployments"


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, dict[str, Any]]:
    files = (yaml.safe_load((folder / name).read_text()) for name in ("compose.yaml", "compose.deliver.yaml"))
    return {name: service for file in files for name, service in file["services"].items()}


def instructions(folder: Path) -> list[tuple[str, str]]:
    """Return instruction and argument of each line of the Dockerfile, lines that go on joined."""
    text = re.sub(r"\\\n", " ", (folder / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_an_image_rests_on_a_base_that_is_pinned_by_digest_or_is_not_built(folder: Path) -> None:
    found = instructions(folder)
    assert found[0] == ("ARG", "BASE")  # no default: nobody builds on a base that was not looked up
    assert {argument.split()[0] for name, argument in found if name == "FROM"} == {"${BASE}"}
    assert any(name == "RUN" and "*@sha256:*) ;;" in argument and "exit 1" in argument for name, argument in found)


def test_an_image_runs_without_root_and_installs_by_hash(folder: Path) -> None:
    found = instructions(folder)
    last = dict(found)
    assert last["USER"] == "10001:10001"
    names = [name for name, _ in found]
    assert names.index("USER") > max(place for place, name in enumerate(names) if name in ("RUN", "COPY"))
    installs = [argument for name, argument in found if name == "RUN" and "pip install" in argument]
    assert installs
    assert all(
        "--require-hashes" in argument or "--no-deps --no-build-isolation -e ." in argument for argument in installs
    )
    assert not [argument for name, argument in found if name in ("ENV", "ARG") and SECRETS.search(argument)]
    assert not [name for name in names if name == "ADD"]
    assert not [argument for name, argument in found if name == "COPY" and argument.startswith(". ")]


def test_a_build_never_sees_data_or_environments(checkout: Path) -> None:
    ignored = set((checkout / ".dockerignore").read_text().split())
    assert {".git", ".venv*", "crrg-data*", "crrg-platform", "build"} <= ignored


def test_every_service_is_hardened_and_answers_on_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {"prefect", "mlflow", "worker", "night", "deliverer"}
    for service in services.values():
        assert service["user"] == "10001:10001"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert "network_mode" not in service
        assert service["pids_limit"]
        assert service["mem_limit"]
        assert service["image"].startswith("${CRRG_IMAGE:?")
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert not [volume for volume in service["volumes"] if "docker.sock" in volume or volume.startswith("/")]


def test_no_service_starts_without_its_secrets_and_none_is_written_down(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for name, value in service["environment"].items():
            if SECRETS.search(name):
                assert re.match(r"\$\{\w+:\?", value), name
        assert not [part for part in service["command"] if SECRETS.search(part)]
    for name in ("worker", "night", "deliverer"):
        assert services[name]["environment"]["CRRG_HMAC_KEY_FILE"] == "/run/secrets/hmac_key"


def test_the_worker_that_delivers_alone_knows_the_identified_zone_and_has_an_identity_of_its_own(
    services: dict[str, dict[str, Any]],
) -> None:
    told = {name for name, service in services.items() if {*IDENTIFIED_ENV} & {*service["environment"]}}
    assert told == {"deliverer"}
    pools = {name: service["command"][4] for name, service in services.items() if "worker" in service["command"]}
    assert pools == {"worker": POOL, "night": NIGHT_POOL, "deliverer": IDENTIFIED_POOL}
    keys = [services[name]["environment"]["AWS_ACCESS_KEY_ID"] for name in pools]
    assert len({*keys}) == 3


def test_the_worker_that_delivers_is_given_all_that_a_delivery_reads_and_its_files_as_secrets(
    services: dict[str, dict[str, Any]], folder: Path
) -> None:
    deliverer = services["deliverer"]
    assert {*IDENTIFIED_ENV} <= {*deliverer["environment"]}
    files = yaml.safe_load((folder / "compose.deliver.yaml").read_text())["secrets"]
    for name, secret in (("CRRG_ARCHIVE_CA_FILE", "archive_ca"), ("CRRG_ARCHIVE_CERT_FILE", "archive_cert")):
        assert deliverer["environment"][name] == f"${{{name}:+/run/secrets/{secret}}}"  # empty if there is none
        assert files[secret] == {"file": f"${{{name}:-/dev/null}}"}
        assert secret in deliverer["secrets"]


def test_every_worker_has_the_limits_region_and_principal_of_the_host(services: dict[str, dict[str, Any]]) -> None:
    fields = Settings.model_fields.items()
    settings = {str(field.validation_alias or f"CRRG_{name.upper()}") for name, field in fields}
    asked = {name for name in settings if HANDED_ON.search(name)}
    assert len(asked) == 11
    for name in ("worker", "night", "deliverer"):
        assert asked <= {*services[name]["environment"]}, name


def test_workers_link_to_the_address_of_mlflow_that_people_use(services: dict[str, dict[str, Any]]) -> None:
    (origins,) = [part for part in services["mlflow"]["command"] if part.startswith("--cors-allowed-origins=")]
    for name in ("worker", "night"):
        assert services[name]["environment"]["CRRG_MLFLOW_PUBLIC_URL"] == origins.partition("=")[2]


def test_services_ask_for_passwords_keep_leases_on_disk_and_report_to_nobody(
    services: dict[str, dict[str, Any]],
) -> None:
    prefect, mlflow = services["prefect"]["environment"], services["mlflow"]["environment"]
    assert prefect["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == LEASE_STORAGE
    assert "PREFECT_SERVER_API_AUTH_STRING" in prefect
    assert "--app-name=basic-auth" in services["mlflow"]["command"]
    assert {"--allowed-hosts", "--cors-allowed-origins"} <= {
        part.partition("=")[0] for part in services["mlflow"]["command"]
    }
    assert prefect["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == prefect["PREFECT_SERVER_UI_API_URL"].removesuffix("/api")
    assert mlflow["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == QUIET_ENV["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    for service in services.values():
        for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED"):
            assert service["environment"][name] == QUIET_ENV[name]


def test_a_pod_has_no_rights_no_token_and_takes_secrets_from_a_secret(folder: Path) -> None:
    template = json.loads((folder / "kubernetes/base-job-template.json").read_text())
    job = template["job_configuration"]["job_manifest"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert "secretRef" in container["envFrom"][0]
    assert all("hostPath" not in volume for volume in pod["volumes"])
    # certificates of an archive; user 10001 reads them as a member of fsGroup, and no pool must have any
    (files,) = (volume["secret"] for volume in pod["volumes"] if "secret" in volume)
    assert files == {"secretName": "{{ files_secret_name }}", "optional": True, "defaultMode": 0o440}
    assert {"name": "files", "mountPath": "/run/secrets/crrg", "readOnly": True} in container["volumeMounts"]
    assert template["variables"]["properties"]["image"]["pattern"] == "@sha256:[0-9a-f]{64}$"
    assert template["variables"]["required"] == ["image"]
    named = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert named == set(template["variables"]["properties"])
    assert not [name for name in named if SECRETS.search(name.upper()) and not name.endswith("secret_name")]
