"""Health of a process: alive, ready, and its figures, for whoever watches over it."""

import json
from collections.abc import Callable, Mapping

from aiohttp import web


def health_app(unready: Callable[[], str | None], figures: Callable[[], Mapping[str, float]]) -> web.Application:
    """`/healthz` says the process lives; `/readyz` says why it cannot work, if it cannot; `/metrics` has its figures."""

    async def healthz(_: web.Request) -> web.Response:
        return _json(200, {"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        reason = unready()
        return _json(503, {"status": "not ready", "reason": reason}) if reason else _json(200, {"status": "ready"})

    async def metrics(_: web.Request) -> web.Response:
        lines = [f"{name} {value:g}\n" for name, value in figures().items()]
        return web.Response(text="".join(lines), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
