"""One line of the route table: what comes in, who may ask, what goes out."""

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
    """What all requests share.

    Attributes:
        stream: The stream.
        options: Limits.
        auth: Who may do what.
        pictures: Drawn for those who look.
        feed: The store's history.
        viewers, listeners: Of live pictures and of events.
        started_at: When the server started, UTC.
        is_secure: Whether the server speaks TLS.
        is_closing: Ends what would otherwise go on for ever.
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
    """One request that was admitted.

    Attributes:
        server: What all requests share.
        request: As it came.
        person: Who asks; None only where no login is needed.
        query, body: Made by the endpoint's models.
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
    def who(self) -> str:
        assert self.person is not None
        return self.person.name

    def camera(self) -> CameraFacts:
        """The camera that the path names.

        Raises:
            Refusal: 404 for an unknown one.
        """
        facts = self.stream.facts
        camera = facts.camera(self.request.path_params["camera"])
        if camera is None:
            raise Refusal(404, "There is no such camera.", hint=_known([one.name for one in facts.cameras]))
        return camera

    def zone(self, camera: CameraFacts, name: str) -> ZoneFacts:
        """A zone of a camera.

        Raises:
            Refusal: 404 for an unknown one.
        """
        zone = camera.zone(name)
        if zone is None:
            raise Refusal(404, "The camera has no such zone.", hint=_known([one.name for one in camera.zones]))
        return zone


@dataclass(frozen=True)
class Endpoint:
    """An address and what it does.

    Attributes:
        method, path: As in HTTP; names in braces.
        handle: Runs on a worker thread; gives the answer, or a response of its own.
        summary: One sentence for the document.
        answer: Model of the answer; None where there is no JSON.
        query, body: Models of what comes in.
        media: Kind of an answer that is no JSON.
        status: Of an answer that is well.
        errors: Statuses from 400 on, beside those that every endpoint has.
        access: Who may ask: after `login`, anybody (`open`), or also anybody on this machine (`local`).
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
    return f"There are: {', '.join(names)}."
