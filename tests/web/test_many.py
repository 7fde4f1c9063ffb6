"""Several people behind one address, as a router or a proxy makes of them, and one machine with several names."""

from __future__ import annotations

from edgead.web.options import AuthOptions, WebOptions
from edgead.web.running_stream import RunningStream

from .parts import Browser, serving

FEW = WebOptions(auth=AuthOptions(requests_per_s=0.01, request_burst=4, session_requests_per_s=0.01, session_burst=6))


def cookie_of(browser: Browser, name: str) -> dict[str, str]:
    return {"Cookie": browser.log_in(name=name).headers["set-cookie"].partition(";")[0]}


def test_a_login_has_requests_of_its_own(stream: RunningStream, no_trace: None) -> None:
    """A user's limit counts only that user's requests, not those of others at the same address."""
    with serving(stream, FEW) as browser:
        ada, bea = cookie_of(browser, "Ada"), cookie_of(browser, "Bea")
        assert [browser.ask("GET", "/api/v1/session", headers=ada).status for _ in range(8)] == [200] * 6 + [429] * 2
        assert [browser.ask("GET", "/healthz").status for _ in range(4)] == [200] * 2 + [429] * 2
        assert [browser.ask("GET", "/api/v1/session", headers=bea).status for _ in range(7)] == [200] * 6 + [429]


def test_an_invented_login_has_none(stream: RunningStream, no_trace: None) -> None:
    """Invalid cookies and those of ended sessions do not bypass the limit of an address."""
    with serving(stream, FEW) as browser:
        ada = cookie_of(browser, "Ada")
        assert browser.ask("DELETE", "/api/v1/session", headers={**ada, "X-Edgead": "1"}).status == 204
        guesses = [{"Cookie": f"edgead_session_{browser.port}=guess{number}"} for number in range(3)]
        statuses = [browser.ask("GET", "/api/v1/session", headers=guess).status for guess in [*guesses, ada]]
        assert statuses == [401] * 3 + [429]


def test_metrics_by_another_name_need_the_token(stream: RunningStream, no_trace: None) -> None:
    """A foreign page whose host name resolves to this machine has no local access."""
    with serving(stream, WebOptions(auth=AuthOptions(hosts=("line.example",)))) as browser:
        own = {"Host": f"localhost:{browser.port}"}
        other = {"Host": f"line.example:{browser.port}"}
        assert browser.ask("GET", "/metrics", headers=own).status == 200
        assert browser.ask("GET", "/metrics", headers=other).status == 401
        assert browser.ask("GET", "/metrics", headers={**other, **browser.bearer}).status == 200
