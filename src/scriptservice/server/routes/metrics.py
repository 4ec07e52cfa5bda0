"""What the service counts, for Prometheus."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from scriptservice.server.routes import openapi
from scriptservice.server.routes.request_parts import no_query
from scriptservice.server.telemetry.gauges import Gauges
from scriptservice.server.telemetry.metrics import Metrics

router = APIRouter(tags=["health"])


@router.get("/metrics", **openapi.METRICS)
async def get_metrics(request: Request) -> Response:
    """Return all metrics, as text or as OpenMetrics."""
    no_query(request)
    gauges: Gauges = request.app.state.gauges
    metrics: Metrics = request.app.state.metrics
    text, media_type = metrics.text(
        await gauges.look(), ",".join(request.headers.getlist("accept"))
    )
    return Response(text, headers={"Content-Type": media_type})
