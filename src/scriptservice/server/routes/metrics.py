"""The route of the metrics for Prometheus."""

from starlette.responses import Response

from scriptservice.server.routes.route import Call


async def get_metrics(call: Call[None, None]) -> Response:
    """Return all metrics, as text or as OpenMetrics."""
    services = call.services
    accept = ",".join(call.request.headers.getlist("accept"))
    text, media_type = services.metrics.text(await services.gauges.read(), accept)
    return Response(text, headers={"Content-Type": media_type})
