"""Make the secrets of the compose file once: `python docker/make_secrets.py`. What is there is kept."""

from __future__ import annotations

import base64
import hashlib
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets"
BROKER_USER = "edgead"
_ITERATIONS = 101


def main(folder: Path = FOLDER) -> None:
    """Write the token of the dashboard, the password of the broker as value and hash, and that of Grafana."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    if any(folder.iterdir()):
        print(f"{folder} has secrets already; remove the folder to make new ones.")
        return
    token, password, grafana = (secrets.token_urlsafe(24) for _ in range(3))
    files = {
        "edgead.env": f"EDGEAD_WEB_TOKEN={token}\nMQTT_PASSWORD={password}\n",
        "web-token": token,
        "mosquitto.passwd": f"{BROKER_USER}:{mosquitto_hash(password)}\n",
        "grafana": grafana,
    }
    for name, text in files.items():
        # the folder is closed to others; each container, with a user of its own, sees its one file
        (folder / name).write_text(text, encoding="ascii")
        (folder / name).chmod(0o600 if name == "edgead.env" else 0o444)
    print(f"Dashboard: http://127.0.0.1:8080, token {token}\nGrafana: http://127.0.0.1:3000, admin, {grafana}")


def mosquitto_hash(password: str) -> str:
    """Salted hash as Mosquitto's password file holds it: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
