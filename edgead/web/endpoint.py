"""Endpoints of the route table, and the context of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import ASGIApp

from edgead.stream.monitoring.live_pictures import LivePictures
from edgead.web.auth import Auth, Person
from edgead.web.connection_limit import ConnectionLimit
from edgead.web.errors import Refusal
from edgead.web.event_feed import EventFeed
from edgead.web.options import WebOptions
from edgead.web.running_stream import CameraFacts, RunningStream, ZoneFacts

Access = Literal["login", "open", "local"]


@dataclass
class ServerContext:
    """State shared by all requests.

    Attributes:
        stream: The running stream.
        options: Limits.
        auth: Authentication and authorisation.
        pictures: Encoder of live frames.
        feed: Event history.
        viewers, listeners: Connection limits for live frames and for events.
        started_at: Start time of the server, UTC.
        is_secure: Whether the server uses TLS.
        is_closing: Whether long-lived answers have to end.
    """

    stream: RunningStream
    options: WebOptions
    auth: Auth
    pictures: LivePictures
    feed: EventFeed
    viewers: ConnectionLimit
    listeners: ConnectionLimit
    started_at: str
    is_secure: bool = False
    is_closing: bool = False


@dataclass(frozen=True)
class Call:
    """An admitted request.

    Attributes:
        server: State shared by all requests.
        request: The HTTP request.
        person: Authenticated user; None only if no login is needed.
        query, body: Instances of the endpoint's models.
    """

    server: ServerContext
    request: Request
    person: Person | None
    query: Any = None
    body: Any = None

    @property
    def stream(self) -> RunningStream:
        return self.server.stream

    @property
    def is_https(self) -> bool:
        """Whether the browser uses HTTPS, with this server or with a proxy in front of it."""
        return self.server.is_secure or self.server.auth.is_https(self.request)

    @property
    def who(self) -> str:
        assert self.person is not None
        return self.person.name

    def camera(self) -> CameraFacts:
        """The camera named in the path.

        Raises:
            Refusal: 404 if it is unknown.
        """
        facts = self.stream.facts
        camera = facts.camera(self.request.path_params["camera"])
        if camera is None:
            raise Refusal(404, "No such camera.", hint=_known([one.name for one in facts.cameras]))
        return camera

    def zone(self, camera: CameraFacts, name: str) -> ZoneFacts:
        """A zone of a camera.

        Raises:
            Refusal: 404 if it is unknown.
        """
        zone = camera.zone(name)
        if zone is None:
            raise Refusal(404, "No such zone on this camera.", hint=_known([one.name for one in camera.zones]))
        return zone


@dataclass(frozen=True)
class Endpoint:
    """A path, its handler and its documentation.

    Attributes:
        method, path: HTTP method and path, with parameters in braces.
        handle: Handler, run on a worker thread; returns a model or a response.
        summary: One sentence for the OpenAPI document.
        answer: Model of a JSON answer; None for other answers.
        query, body: Models of query and request body.
        media: Media type of an answer that is not JSON.
        status: Status on success.
        errors: Statuses from 400 on, besides those common to all endpoints.
        access: `login`: logged-in users; `open`: everyone; `local`: logged-in users and everyone on this machine.
    """

    method: str
    path: str
    handle: Callable[[Call], BaseModel | ASGIApp]
    summary: str
    answer: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    media: str | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    access: Access = "login"


def _known(names: list[str]) -> str:
    return f"Known names: {', '.join(names)}."
