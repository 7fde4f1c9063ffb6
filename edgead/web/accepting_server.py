"""The server of uvicorn, which accepts connections through a `Door`."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from edgead.web.door import Door
from edgead.web.options import WebOptions
from edgead.web.proxies import Proxies


class AcceptingServer(uvicorn.Server):
    """uvicorn without its own accepting: that begins TLS with everyone and logs thousands of lines without descriptors.

    Args:
        config: Configuration of uvicorn, loaded.
        options: Limits of connections.
    """

    def __init__(self, config: uvicorn.Config, options: WebOptions) -> None:
        super().__init__(config)
        self._options = options
        self._proxies = Proxies(options.auth.trusted_proxies)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        doors = [self._door(listener) for listener in sockets or []]
        for door in doors:
            door.open()
        self.servers = doors  # type: ignore[assignment]  # of a server it needs close and wait_closed alone

    def _door(self, listener: socket.socket) -> Door:
        options = self._options
        loop = asyncio.get_running_loop()
        return Door(
            listener,
            lambda: self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
            ),
            self.config.ssl,
            max_connections=options.max_connections,
            max_per_address=options.max_per_address,
            silence_s=options.patience_s if self.config.ssl is None else options.handshake_s,
            handshake_s=options.handshake_s,
            is_proxy=self._proxies.trusts,
        )
