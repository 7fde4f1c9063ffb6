"""A report that is shown to others says neither who, nor where, nor which machine."""

from __future__ import annotations

import json
import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.bundle import Bundle
from edgead.commands.doctor import Check, Diagnosis, doctor
from edgead.commands.doctor.privacy import COMMON_NAMES, anonymise, secrets_of
from edgead.commands.doctor.report import LOG_LINES, write_report
from edgead.errors import StorageError
from tests.commands.doctor.devices import DEVICES, orin_nano
from tests.tiny import make_bundle

KNOWN = {"erika": "[user]", "orin-line3": "[host]", "/home/erika": "~", "1424023012345": "[serial]", "bo": "[user]"}
PLANTED = [
    ("cannot open /home/erika/acme/line/model.onnx", ["erika", "acme"]),
    ("cannot open /home/otto and /Users/otto/x", ["otto"]),
    ("no such folder: /mnt/acme-berlin/parts/data", ["acme"]),
    ("-I/home/otto/inc -L/data/acme/lib", ["otto", "acme"]),
    ("~/acme/line/bundle is broken", ["acme"]),
    ("rtsp://erika:hunter2@10.0.0.5:554/live?token=abc123", ["erika", "hunter2", "10.0.0.5", "abc123"]),
    ("rtsp://cam:hun ter2/1@cam.acme.example/live", ["ter2", "acme"]),
    ("user:hunter2@cam.acme.example refused", ["hunter2", "acme"]),
    ("mail otto@acme.example", ["otto", "acme"]),
    ("peer 192.168.1.77:8554 refused, 10.1.2.3.", ["192.168.1.77", "10.1.2.3"]),
    ("addr:fe80::1c2b:3aff:fe4d:5e6f%eth0 [2001:db8::7]", ["1c2b", "db8"]),
    ("ether 48:b0:2d:aa:bb:cc, 48-B0-2D-AA-BB-CC, hwaddr:48:b0:2d:11:22:33, 48b0.2daa.bbcc", ["aa:bb", "AA-BB", "11:22", "2daa"]),
    ("Serial Number: 0424-X17, S/N 1424023012345", ["0424", "1424023012345"]),
    ("GPU 0: (UUID: GPU-5e1f7c3a-9d2b-4c6e-8f00-112233445566)", ["5e1f7c3a", "112233445566"]),
    ("password is hunter2, --token hunter3, \"api_key\": \"hunter 4\", mypassword=hunter5", ["hunter"]),
    ("Authorization: Bearer abc.def-ghi", ["abc", "ghi"]),
    ("HF_TOKEN=hf_AbCdEfGhIjKlMnOpQrSt WANDB='x y' CUDA_HOME=/opt/secretco", ["AbCd", "x y", "secretco"]),
    ("got ghp_0123456789abcdefghijABCDEFGHIJ012345 and eyJhbGciOiJIUzI1NiJ9.eyJzdWIi", ["0123456789", "hbGciOi"]),
    ("key MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAo+/BAQ9", ["MIIEvQ", "SjAgEA"]),
    ("erika@orin-line3:~$ hello ERIKA, Orin-Line3.local; bo was here", ["erika", "orin-line3", " bo "]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "secrets"), PLANTED)
def test_planted_secrets_are_taken_out(text: str, secrets: list[str]) -> None:
    """Names, folders, addresses, serial numbers, tokens and values of variables do not come through."""
    assert any(secret.lower() in text.lower() for secret in secrets), "the secret must be there to begin with"
    hidden = anonymise(text, KNOWN)
    assert not [secret for secret in secrets if secret.lower() in hidden.lower()], hidden


@pytest.mark.parametrize(
    "text",
    [
        "TensorRT 10.3.0, CUDA 12.6, L4T 36.4.3, package nvidia-jetpack 6.2+b77",
        "ImportError: libnvdla_compiler.so: cannot open shared object file: No such file or directory",
        "the system's is in /usr/lib/python3.10/dist-packages, and nvcc in /usr/local/cuda/bin",
        "sudo apt install gstreamer1.0-plugins-bad; sudo nvpmodel -m 2; camera:0 is /dev/video0",
        "nvinfer1::rt::Builder at 12:30:45, largest relative difference 1.2e-07 (allowed 1e-04)",
        "KeyError: 'anomaly_map' in runs/latest/bundle",
        "bottle, robot and a bobbin hold a short name, but are other words",
    ],
)
def test_what_helps_stays(text: str) -> None:
    """Versions, libraries, system folders, commands and numbers of a report are left as they are."""
    assert anonymise(text, KNOWN) == text


NAMES = st.text(string.ascii_lowercase + string.digits + "-_.", min_size=4, max_size=16).filter(
    lambda name: (
        name[0].isalpha() and name not in COMMON_NAMES and not re.search("serial|host|user|folder|secret", name)
    )
)
PLACES = st.sampled_from(
    [
        "{}",
        "/home/{}/x",
        "/usr/lib/{}/y.so: cannot open",
        "https://{}:pw@cam/",
        "{}@{}",
        "x{}y",
        "USER={}",
        "a, {}; {}.",
        "[{}]",
    ]
)


@given(user=NAMES, host=NAMES, place=PLACES, text=st.text(max_size=30))
def test_no_name_survives_anywhere(user: str, host: str, place: str, text: str) -> None:
    """Whatever user and machine are called, wherever their names stand, and whatever stands beside."""
    hidden = anonymise(
        f"{text} {place.replace('{}', user)} {text} {place.replace('{}', host)}", {user: "[#]", host: "[#]"}
    )
    for label in ("url", "address", "secret", "value", "serial", "id", "mac", "ip", "number", "folder", "#"):
        hidden = hidden.replace(f"[{label}]", "")
    alone = anonymise(text, {})
    assert user not in hidden.lower() or user in alone.lower()
    assert host not in hidden.lower() or host in alone.lower()


@given(
    octets=st.tuples(*[st.integers(0, 255)] * 4), before=st.sampled_from(["", "http ", "peer=", "(", "v", "a."]),
    after=st.sampled_from(["", ":80", "/x", ".", ",", ")"]),
)  # fmt: skip
def test_no_ip_address_survives(octets: tuple[int, int, int, int], before: str, after: str) -> None:
    """Every IPv4 address is hidden, whatever it touches."""
    address = ".".join(map(str, octets))
    assert address not in anonymise(f"{before}{address}{after}", {})


@given(octets=st.lists(st.integers(0, 255), min_size=6, max_size=6), mark=st.sampled_from(":-"))
def test_no_mac_address_survives(octets: list[int], mark: str) -> None:
    """Every MAC address is hidden, upper or lower case."""
    address = mark.join(f"{octet:02x}" for octet in octets)
    for form in (address, address.upper()):
        assert form not in anonymise(f"ether {form} brd, hwaddr:{form}", {})


@given(st.text(string.ascii_letters + string.digits, min_size=24, max_size=64).filter(lambda t: re.search(r"\d", t) and re.search(r"[A-Za-z]", t)))  # fmt: skip
def test_no_long_token_survives(token: str) -> None:
    """A string that looks like a token is hidden even without a keyword beside it."""
    assert token not in anonymise(f"got {token}, went on", {})


@given(st.text(max_size=200))
def test_hiding_twice_changes_nothing_dangerous(text: str) -> None:
    """Any text goes through, and without anything known only patterns are taken out."""
    assert isinstance(anonymise(text, KNOWN), str)


def test_names_of_this_machine_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """User, host, home, the board's serial number and secret-looking variables are looked up."""
    monkeypatch.setenv("USER", "erika")
    monkeypatch.setenv("MQTT_PASSWORD", "hunter22")
    monkeypatch.setenv("HOME", "/home/erika")
    monkeypatch.setattr("platform.node", lambda: "line3.acme.example")
    known = secrets_of(orin_nano())
    assert known["erika"] == "[user]"
    assert known["hunter22"] == "[secret]"
    assert known["/home/erika"] == "~"
    assert known["line3"] == known["line3.acme.example"] == known["orin-line3"] == "[host]"
    assert known["1424023012345"] == "[serial]"
    assert "" not in known
    assert "root" not in known


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle with a log of a failed build that holds every planted secret."""
    made = make_bundle(tmp_path / "bundle")
    folder = made.engines_path / "tensorrt-fp16"
    folder.mkdir(parents=True)
    lines = (
        ["too old to be shown"] + ["filler"] * LOG_LINES + ["```", "\x1b[31mred\x00", *(text for text, _ in PLANTED)]
    )
    (folder / "build.log").write_text("\n".join(lines), encoding="utf-8")
    return made


def test_report_holds_facts_and_no_secret(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks, bundle and the end of the build log are there; planted secrets of checks and log are not."""
    monkeypatch.setenv("USER", "erika")
    monkeypatch.setenv("LOGNAME", "bo")
    checks = tuple(Check(f"c{i}", "warning", text, advice=text, group="G") for i, (text, _) in enumerate(PLANTED))
    path = tmp_path / "report.md"
    write_report(path, Diagnosis(checks), bundle.path, orin_nano())
    report = path.read_text(encoding="utf-8")
    for _, secrets in PLANTED:
        assert not [secret for secret in secrets if secret.lower() in report.lower()]
    assert "Last 60 lines of engines/tensorrt-fp16/build.log" in report
    assert "````text" in report, "a log that holds a fence is fenced with a longer one"
    assert "too old" not in report
    assert bundle.manifest.model in report
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", report)
    assert f"{len(PLANTED)} warnings" in report


@pytest.mark.parametrize("device", DEVICES)
def test_report_of_each_device(device: str, tmp_path: Path) -> None:
    """The real checks of every fake machine come through readable, without its user, host and serial number."""
    machine = DEVICES[device]()
    diagnosis = doctor(tmp_path / "none", bundle_named=False, threads=1, machine=machine)
    path = tmp_path / "report.md"
    write_report(path, diagnosis, tmp_path / "none", machine)
    report = path.read_text(encoding="utf-8")
    for secret in ("erika", "orin-line3", "1424023012345", str(tmp_path)):
        assert secret not in report
    assert report.count("\n- ") == len(diagnosis.checks)
    assert all(check.name in report for check in diagnosis.checks)
    if machine.files.get("/etc/nv_tegra_release"):
        assert "TensorRT" in report


def test_report_is_whole_or_absent(tmp_path: Path) -> None:
    """A folder that cannot be written is an error that names it, and leaves no half file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write_report(tmp_path / "file" / "report.md", Diagnosis(()), tmp_path / "none", orin_nano())
    assert os.listdir(tmp_path) == ["file"]


def test_nothing_of_the_environment_is_in_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--json` goes to scripts and keeps paths, but environment variables are never in the output."""
    monkeypatch.setenv("SOME_TOKEN", "hunter22")
    content = json.dumps(doctor(tmp_path / "none", bundle_named=False, threads=1, machine=orin_nano()).to_json())
    assert "hunter22" not in content
