"""What pages are made of besides themselves: style, font and scripts, all our own or vendored whole, none from elsewhere."""

import hashlib
from pathlib import Path

from aiohttp import web

_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}

#: The version is in the path, so a browser need never ask again.
_FOR_EVER = "public, max-age=31536000, immutable"


class Statics:
    """The files of a folder, in memory, under a path that changes when any of them does."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES}
        digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in self._files.values()))
        self._version = digest.hexdigest()[:12]

    @property
    def root(self) -> str:
        """The path below which they are."""
        return f"/static/{self._version}"

    async def serve(self, request: web.Request) -> web.Response:
        """One file; an older version's page gets the newer file, and asks again next time."""
        name = request.match_info["name"]
        content = self._files.get(name)
        if content is None:
            raise web.HTTPNotFound
        fresh = request.match_info["version"] == self._version
        media_type = _TYPES[Path(name).suffix]
        response = web.Response(body=content, content_type=media_type)
        if media_type.startswith("text/"):
            response.charset = "utf-8"
        response.headers["Cache-Control"] = _FOR_EVER if fresh else "no-store"
        return response
