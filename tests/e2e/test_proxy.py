"""What people meet who reach Prefect and MLflow as the compose file starts them, through the proxy that is printed.

A real nginx, both real services with their passwords, and a real browser: pages show what they should under rules that
let nothing in from elsewhere; who has not signed on, or names no service, gets nothing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from deployments.proxy import Proxy, nginx_config
from deployments.services import Service, free_port, start_prefect_server, wait_until_up
from tests.support.review_browser import run_browser

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
PREFECT, MLFLOW = "prefect.test", "mlflow.test"
PREFECT_PASSWORD, MLFLOW_LOGIN = "user:a-password-of-prefect", ("keeper", "a-password-of-mlflow")
SIGNED_ON = "_oauth2_proxy=signed"
SLOW_S = 60
"""The servers' pages load slowly beside other tests."""
GIVEN_UP = "net::ERR_TOO_MANY_RETRIES"
"""What Chromium says of about one page in forty: nginx had answered the file with 200, and was not asked again."""


class SignOn(BaseHTTPRequestHandler):
    """Speaks as oauth2-proxy does: a question whether somebody is signed on, and the place to do so."""

    def do_GET(self) -> None:
        if self.path.startswith("/oauth2/auth"):
            self.send_response(202 if SIGNED_ON in self.headers.get("Cookie", "") else 401)
        else:
            self.send_response(302)
            self.send_header("Set-Cookie", f"{SIGNED_ON}; Path=/; Secure; HttpOnly")
            self.send_header("Location", self.path.partition("rd=")[2] or "/")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Proxied:
    """The services behind the proxy.

    Attributes:
        port: Where nginx listens.
        prefect: Prefect's own address.
        mlflow: MLflow's own address.
        run_url: Page of a flow run.
        mlflow_pages: Parts of MLflow's pages behind its address.
    """

    port: int
    prefect: str
    mlflow: str
    run_url: str = ""
    mlflow_pages: list[str] = field(default_factory=list)

    def url(self, name: str, rest: str = "/") -> str:
        return f"https://{name}:{self.port}{rest}"


def filled(text: str, values: dict[str, str]) -> str:
    """Return a value of the compose file with its variables, as compose fills them in."""
    return re.sub(r"\$\{(\w+)(?::?[-?]([^}]*))?\}", lambda found: values.get(found[1], found[2] or ""), text)


def call(url: str, body: dict[str, Any], login: str) -> dict[str, Any]:
    known = base64.b64encode(login.encode()).decode()
    headers = {"Authorization": f"Basic {known}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


@pytest.fixture(scope="module")
def compose(checkout: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((checkout / "deployments/compose.yaml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def proxied(compose: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    if not Path(NGINX).exists():
        pytest.skip("no nginx; `make system-deps` installs it")
    folder = tmp_path_factory.mktemp("proxy")
    port, mlflow_port = free_port(), free_port()
    values = {
        "CRRG_PREFECT_PUBLIC_URL": f"https://{PREFECT}:{port}", "CRRG_PREFECT_AUTH": PREFECT_PASSWORD,
        "CRRG_MLFLOW_PUBLIC_URL": f"https://{MLFLOW}:{port}",
        "CRRG_MLFLOW_HOSTS": f"{MLFLOW}:{port},127.0.0.1:{mlflow_port}",
        "MLFLOW_ADMIN": MLFLOW_LOGIN[0], "MLFLOW_ADMIN_PASSWORD": MLFLOW_LOGIN[1], "MLFLOW_SECRET": "s" * 32,
    }  # fmt: skip
    with contextlib.ExitStack() as started:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"):
                patch.setenv(name, filled(compose["prefect"]["environment"][name], values))
            prefect = start_prefect_server(folder / "prefect", public_url=values["CRRG_PREFECT_PUBLIC_URL"])
        started.callback(prefect.stop, 0)
        mlflow = start_mlflow_of(compose["mlflow"], folder, mlflow_port, values)
        started.callback(mlflow.stop, 0)
        found = Proxied(port, prefect.url, mlflow.url)
        sign_on = started.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), SignOn))
        threading.Thread(target=sign_on.serve_forever, daemon=True).start()
        started.callback(sign_on.shutdown)
        nginx = started.enter_context(start_nginx(folder, found, f"http://127.0.0.1:{sign_on.server_port}"))
        started.callback(nginx.terminate)
        fill_prefect(found)
        fill_mlflow(found)
        yield found


def start_mlflow_of(service: dict[str, Any], folder: Path, port: int, values: dict[str, str]) -> Service:
    """Start MLflow with the arguments and the environment of the compose file, but for where it listens and keeps."""
    replaced = ("--host=", "--port=", "--backend-store-uri=", "--artifacts-destination=")
    command = [filled(part, values) for part in service["command"] if not part.startswith(replaced)]
    own = [
        "--host=127.0.0.1", f"--port={port}", f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
        f"--artifacts-destination={folder}/artifacts",
    ]  # fmt: skip
    env = {name: filled(value, values) for name, value in service["environment"].items()}
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, *own],
            cwd=folder,  # it keeps its users where it is started
            env={**os.environ, **env},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Service("mlflow", f"http://127.0.0.1:{port}", process, folder / "mlflow.log")
    wait_until_up(started, f"{started.url}/health", timeout_s=240)
    return started


def start_nginx(folder: Path, found: Proxied, sign_on: str) -> subprocess.Popen[bytes]:
    names = f"subjectAltName=DNS:{PREFECT},DNS:{MLFLOW}"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out",
         folder / "cert.pem", "-days", "2", "-subj", f"/CN={PREFECT}", "-addext", names],
        check=True, capture_output=True,
    )  # fmt: skip
    proxy = Proxy(
        PREFECT, MLFLOW, f"{folder}/cert.pem", f"{folder}/key.pem", sign_on, f"127.0.0.1:{found.port}", found.prefect,
        found.mlflow,
    )  # fmt: skip
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{}}\n"
    (folder / "nginx.conf").write_text(f"{main}http {{ access_log off; {places}\n{nginx_config(proxy)}}}\n")
    tested = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "nginx.log")]
    subprocess.run([*tested, "-t"], check=True, capture_output=True)
    return subprocess.Popen(tested)


def fill_prefect(found: Proxied) -> None:
    def made(kind: str, **values: Any) -> str:
        return str(call(f"{found.prefect}/api/{kind}/", values, PREFECT_PASSWORD)["id"])

    state = {"type": "COMPLETED", "name": "Completed"}
    run = made("flow_runs", flow_id=made("flows", name="nightly"), name="a-night", state=state)
    for place in range(3):
        made("task_runs", flow_run_id=run, task_key="shard", dynamic_key=str(place), name=f"shard-{place}", state=state)
    found.run_url = found.url(PREFECT, f"/runs/flow-run/{run}")


def fill_mlflow(found: Proxied) -> None:
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", MLFLOW_LOGIN[0])
        patch.setenv("MLFLOW_TRACKING_PASSWORD", MLFLOW_LOGIN[1])
        client = MlflowClient(found.mlflow)
        experiment = client.create_experiment("nights")
        run = client.create_run(experiment, run_name="a-night").info.run_id
        client.log_metric(run, "night/num_drafted", 3)
        client.log_text(run, "<p id='said'>written here</p><script>top.is_run = 1</script>", "page.html")
        client.log_image(run, np.full((8, 8, 3), 90, np.uint8), "film.png")
        client.create_registered_model("crrg-pipeline")
        client.create_model_version("crrg-pipeline", f"mlflow-artifacts:/{experiment}/{run}/artifacts", run)
    runs = f"experiments/{experiment}/runs"
    pages = (runs, f"{runs}/{run}", "models", "models/crrg-pipeline/versions/1")
    artifacts = [f"{runs}/{run}/artifacts/{name}" for name in ("film.png", "page.html")]
    found.mlflow_pages = [f"/#/{page}" for page in (*pages, *artifacts)]


@pytest.fixture(scope="module")
def context(proxied: Proxied) -> Iterator[BrowserContext]:
    for browser in run_browser(f"--host-resolver-rules=MAP {PREFECT} 127.0.0.1, MAP {MLFLOW} 127.0.0.1"):
        login = {"username": MLFLOW_LOGIN[0], "password": MLFLOW_LOGIN[1]}
        with browser.new_context(ignore_https_errors=True, http_credentials=login) as opened:
            yield opened


class Watched:
    """A page, what it complained of, and whom it asked."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(1000 * SLOW_S)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.lost: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("response", lambda found: found.status == 403 and self.complaints.append(f"403 {found.url}"))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.on("requestfailed", lambda request: request.failure == GIVEN_UP and self.lost.append(request.url))

    def show(self, url: str, text: str = "", *, selector: str = "") -> None:
        """Open a page until it shows a text or an element; one of which the browser lost a file is opened anew."""
        wanted = (self.page.locator(selector) if selector else self.page.get_by_text(text)).first
        before = list(self.complaints)
        for _ in range(3):
            self.complaints[:], self.lost[:] = before, []
            self.page.goto("about:blank")
            self.page.goto(url)
            until_s = time.monotonic() + SLOW_S
            while not wanted.is_visible() and not self.lost and time.monotonic() < until_s:
                self.page.wait_for_timeout(200)
            if not self.lost:
                break
        wanted.wait_for(timeout=1000)

    def _note(self, message: Any) -> None:
        if message.type == "error" and "404" not in message.text and "401" not in message.text:
            self.complaints.append(message.text[:200])


@pytest.fixture
def watched(context: BrowserContext) -> Iterator[Watched]:
    found = Watched(context)
    yield found
    found.page.close()


def test_prefect_shows_a_run_and_its_picture_under_the_rules(proxied: Proxied, watched: Watched) -> None:
    page = watched.page
    watched.show(proxied.url(PREFECT, "/login"), selector="input[type=password]")
    page.locator("input[type=password]").fill(PREFECT_PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard*")
    watched.show(proxied.run_url, "a-night")
    page.locator("canvas").first.wait_for()
    assert (watched.complaints, watched.hosts) == ([], {f"{PREFECT}:{proxied.port}"})


def test_mlflow_shows_runs_models_and_artifacts_under_the_rules(proxied: Proxied, watched: Watched) -> None:
    page = watched.page
    texts = ("a-night", "night/num_drafted", "crrg-pipeline", "Version 1", "film.png", "page.html")
    *pages, document = zip(proxied.mlflow_pages, texts, strict=True)
    for rest, text in pages:
        watched.show(proxied.url(MLFLOW, rest), text)
    assert (watched.complaints, watched.hosts) == ([], {f"{MLFLOW}:{proxied.port}"})
    watched.show(proxied.url(MLFLOW, document[0]), document[1])
    time.sleep(2)  # what a script in a document of a run would do, it has done
    assert page.evaluate("window.is_run") is None
    assert all("script-src" in each for each in watched.complaints)


def test_nothing_from_elsewhere_runs_in_a_page_or_is_told_of_it(proxied: Proxied, watched: Watched) -> None:
    for name in (PREFECT, MLFLOW):
        watched.page.goto(proxied.url(name))
        tried = watched.page.evaluate(
            """async () => {
                const script = document.createElement("script");
                script.textContent = "window.is_let_in = true";
                document.body.append(script);
                const asked = await fetch("https://elsewhere.test/").then(() => "told", () => "refused");
                return [window.is_let_in ?? false, asked];
            }"""
        )
        assert tried == [False, "refused"]
        assert any("connect-src" in each for each in watched.complaints)


def test_who_has_not_signed_on_gets_nothing_and_no_other_name_is_answered(proxied: Proxied) -> None:
    def status(name: str, rest: str, *more: str) -> str:
        where = ["--resolve", f"{name}:{proxied.port}:127.0.0.1"]
        command = ["curl", "-sk", "-o", os.devnull, "-w", "%{http_code} %{redirect_url}", *where, *more]
        done = subprocess.run([*command, proxied.url(name, rest)], capture_output=True, text=True, check=False)
        return f"{done.stdout.strip()} {done.returncode}"

    start = "/oauth2/start?rd=/api/health"
    assert status(PREFECT, "/api/health") == f"302 {proxied.url(PREFECT, start)} 0"
    assert status(PREFECT, "/api/health", "-b", SIGNED_ON) == "200 0"
    assert status(PREFECT, "/api/flows/filter", "-b", SIGNED_ON, "-d", "{}") == "401 0", "the service asks, too"
    assert status(MLFLOW, "/", "-b", SIGNED_ON) == "401 0"
    assert status("elsewhere.test", "/api/health", "-b", SIGNED_ON) == "000 52", "an empty answer"
