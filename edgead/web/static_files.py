"""Static files of the page, listed once at the start."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from edgead.web.responses import error_response

FOLDER = Path(__file__).parent / "static"
_MEDIA = {
    ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png",
    ".ico": "image/x-icon", ".json": "application/json", ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}  # fmt: skip


class StaticFiles:
    """Answers with files listed at the start; a requested name is never used as a path.

    Args:
        folder: Folder with `index.html`.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink() and path.suffix in _MEDIA
        }

    async def page(self, request: Request) -> Response:
        return self._file("index.html")

    async def file(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        path = self._files.get(name)
        if path is None:
            return error_response(404, "No such file.")
        return FileResponse(path, media_type=_MEDIA[path.suffix], headers={"Cache-Control": "no-cache"})
