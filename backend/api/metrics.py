"""The route of the metrics, for Prometheus: a token, never the session."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from backend.api.deps import TheBackend, bearer
from backend.api.openapi import files
from backend.api.security import METRICS_PATH
from backend.app import Backend
from backend.domain.auth import METRICS
from backend.errors import NotAllowed, NotSignedIn

router = APIRouter(tags=["operations"])
TEXT = "text/plain; version=0.0.4"
ERRORS = {401: "no token that reads the metrics", 403: "the token is no administrator's"}


@router.get(METRICS_PATH, responses=files(TEXT, ERRORS), summary="Get the metrics for Prometheus")
async def metrics(request: Request, backend: TheBackend, token: Annotated[str | None, Depends(bearer)]) -> Response:
    """Answer a token of scope `metrics`, or an administrator's token. A session does not count."""
    await _require_reader(backend, token)
    content, content_type = await backend.metrics.read(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": content_type})


async def _require_reader(backend: Backend, token: str | None) -> None:
    if token is None:
        raise NotSignedIn("Send a token of scope metrics: Authorization: Bearer TOKEN.")
    try:
        await backend.accounts.token(token, purpose=METRICS)
    except NotSignedIn:
        authority = await backend.accounts.token(token)
        if not authority.user.is_admin:
            raise NotAllowed("The metrics need a token of scope metrics, or an administrator's.") from None
