"""Health of a process: alive, ready, and its figures, for whoever watches over it. The one door to prometheus-client."""

from collections.abc import Callable, Iterable, Mapping

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


def health_app(unready: Callable[[], str | None], figures: Callable[[], Mapping[str, float]]) -> web.Application:
    """`/healthz`: the process lives. `/readyz`: 503 with the reason while it cannot work. `/metrics`: its figures.

    A figure whose name ends in `_total` is a counter, any other a gauge.
    """
    registry = CollectorRegistry()
    registry.register(_Figures(figures))

    async def healthz(_: web.Request) -> web.Response:
        return health_answer("alive", None)

    async def readyz(_: web.Request) -> web.Response:
        return health_answer("ready", unready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


def health_answer(status: str, problem: str | None) -> web.Response:
    """200 with the status, or 503 with what is in its way."""
    body = {"status": f"not {status}", "reason": problem} if problem else {"status": status}
    return web.Response(status=503 if problem else 200, body=msgspec.json.encode(body), content_type="application/json")


class _Figures(Collector):
    """Figures as they are at the moment they are asked for."""

    def __init__(self, figures: Callable[[], Mapping[str, float]]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """One family for each figure."""
        for name, value in self._figures().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, name.removeprefix("mailroom_").replace("_", " "), value=value)
