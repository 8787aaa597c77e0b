"""Print a configuration of nginx that stands before Prefect and MLflow: TLS, single sign-on, content rules of pages.

``python -m deployments.proxy --prefect-name … --mlflow-name … --certificate … --key … > crrg.conf``. Every name that is
none of the two is left without an answer. Pages may load what their own service gives, and nothing from elsewhere;
``tests/e2e/test_proxy.py`` opens them in a browser. Workers go to the services themselves, not through here.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")
_LISTEN = re.compile(r"([A-Za-z0-9.\[\]:*-]+:)?\d{1,5}")
_PATH = re.compile(r"/[^\s;{}\"'$\\]+")
_FORMS = {
    "prefect_name": (_NAME, "host name in lower case"),
    "mlflow_name": (_NAME, "host name in lower case"),
    "certificate": (_PATH, "absolute path without spaces"),
    "key": (_PATH, "absolute path without spaces"),
    "listen": (_LISTEN, "port, such as 443 or 127.0.0.1:8443"),
    "prefect": (_ADDRESS, "address without a path, such as http://127.0.0.1:4200"),
    "mlflow": (_ADDRESS, "address without a path, such as http://127.0.0.1:5000"),
    "sign_on": (_ADDRESS, "address without a path, such as http://127.0.0.1:4180"),
}

_OWN_ALONE = {
    "default-src": "'none'",
    "script-src": "'self'",
    "worker-src": "'self' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
"""Scripts come from files of the service alone; both services set styles from within their scripts."""


@dataclass(frozen=True)
class Proxy:
    """What stands where.

    Attributes:
        prefect_name: Name by which people reach Prefect.
        mlflow_name: Name by which people reach MLflow.
        certificate: PEM file with the certificate of both names, and those between it and its root.
        key: PEM file with its key.
        sign_on: Address of oauth2-proxy; empty leaves out single sign-on.
        listen: Port, or address and port, where nginx listens.
        prefect: Address of Prefect's server.
        mlflow: Address of MLflow's server.
    """

    prefect_name: str
    mlflow_name: str
    certificate: str
    key: str
    sign_on: str = ""
    listen: str = "443"
    prefect: str = "http://127.0.0.1:4200"
    mlflow: str = "http://127.0.0.1:5000"

    def check(self) -> None:
        """Check that every value is what it stands for: they go into a configuration as they are.

        Raises:
            ValueError: One is not; the message names its flag.
        """
        for name, (form, words) in _FORMS.items():
            value = getattr(self, name)
            if not form.fullmatch(value) and (value or name != "sign_on"):
                raise ValueError(f"--{name.replace('_', '-')}: expected {words}, got {value!r}")
        if self.prefect_name == self.mlflow_name:
            raise ValueError("--mlflow-name: Prefect has this name; give each service one of its own")


def nginx_config(proxy: Proxy) -> str:
    """Return what belongs into nginx's ``http`` block.

    Raises:
        ValueError: A value is not what it stands for.
    """
    proxy.check()
    # its picture of a run compiles shaders in the page, and its pages are told of events as they happen
    of_prefect = {
        **_OWN_ALONE,
        "script-src": "'self' 'unsafe-eval'",
        "connect-src": f"'self' wss://{proxy.prefect_name}:*",
    }
    # it shows documents of a run in frames
    of_mlflow = {**_OWN_ALONE, "frame-src": "'self' blob:", "frame-ancestors": "'self'"}
    return f"""# made by python -m deployments.proxy, for the http block of nginx 1.22 or newer
map $http_upgrade $crrg_connection {{
    default upgrade;
    ''      close;
}}

# a name that is none of ours gets no answer
server {{
    listen {proxy.listen} ssl default_server;
    ssl_certificate {proxy.certificate};
    ssl_certificate_key {proxy.key};
    return 444;
}}

{_server(proxy, proxy.prefect_name, proxy.prefect, of_prefect)}
{_server(proxy, proxy.mlflow_name, proxy.mlflow, of_mlflow)}"""


def _server(proxy: Proxy, name: str, address: str, policy: dict[str, str]) -> str:
    asked = "\n        auth_request /oauth2/auth;\n        error_page 401 = @sign_on;" if proxy.sign_on else ""
    return f"""server {{
    listen {proxy.listen} ssl;
    server_name {name};
    ssl_certificate {proxy.certificate};
    ssl_certificate_key {proxy.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    server_tokens off;
    client_max_body_size 1g;

    add_header Content-Security-Policy "{"; ".join(f"{kind} {places}" for kind, places in policy.items())}" always;
    add_header Strict-Transport-Security "max-age=31536000" always;
    add_header X-Content-Type-Options nosniff always;
    add_header Referrer-Policy same-origin always;
    proxy_hide_header Content-Security-Policy;
    proxy_hide_header X-Content-Type-Options;

    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Proto https;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $crrg_connection;
    proxy_read_timeout 1h;

    location / {{{asked}
        proxy_pass {address};
    }}
{_sign_on(proxy.sign_on) if proxy.sign_on else ""}}}
"""


def _sign_on(address: str) -> str:
    return f"""
    # oauth2-proxy, or what speaks as it does
    location @sign_on {{
        return 302 /oauth2/start?rd=$request_uri;
    }}
    location /oauth2/ {{
        proxy_pass {address};
    }}
    location = /oauth2/auth {{
        internal;
        proxy_pass {address};
        proxy_pass_request_body off;
        proxy_set_header Host $http_host;
        proxy_set_header Content-Length "";
        proxy_set_header X-Original-URI $request_uri;
    }}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the configuration."""
    parser = argparse.ArgumentParser(prog="deployments.proxy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prefect-name", required=True, help="by which people reach Prefect")
    parser.add_argument("--mlflow-name", required=True, help="by which people reach MLflow")
    parser.add_argument("--certificate", required=True, help="PEM file, of both names")
    parser.add_argument("--key", required=True, help="PEM file")
    parser.add_argument("--sign-on", default="", help="address of oauth2-proxy; without it there is no single sign-on")
    parser.add_argument("--listen", default=Proxy.listen, help="port, or address and port")
    parser.add_argument("--prefect", default=Proxy.prefect, help="address of Prefect's server")
    parser.add_argument("--mlflow", default=Proxy.mlflow, help="address of MLflow's server")
    try:
        sys.stdout.write(nginx_config(Proxy(**vars(parser.parse_args(arguments)))))
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
