"""`/docs`: the documentation of the routes, from local files and with its own content policy."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

FILES_ADDRESS = "/static-offline-docs"


def add_docs(app: FastAPI) -> None:
    """Serve `/docs` and the files that it loads. `app` needs `docs_url=None, redoc_url=None`."""
    files = Path(fastapi_offline.__file__).parent / "static"
    app.mount(FILES_ADDRESS, StaticFiles(directory=files), name="docs-files")
    app.add_api_route("/docs", _docs, methods=["GET"], include_in_schema=False, response_class=HTMLResponse)


async def _docs(request: Request) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=request.app.title,
        swagger_js_url=f"{FILES_ADDRESS}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES_ADDRESS}/swagger-ui.css",
        swagger_favicon_url=f"{FILES_ADDRESS}/favicon.png",
    )
    # The page consists of constants, so no foreign script can get the nonce here.
    signed = bytes(page.body).decode().replace("<script", f'<script nonce="{request.state.csp_nonce}"')
    return HTMLResponse(signed)
