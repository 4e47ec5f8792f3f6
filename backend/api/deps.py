"""The dependencies of the routes: the caller and the backend."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from backend.app import Backend
from backend.domain.auth import Authority, User
from backend.errors import NotSignedIn, StoreRefused

TOKEN_ADDRESS = "/api/auth/token"  # noqa: S105  an address
bearer = OAuth2PasswordBearer(tokenUrl=TOKEN_ADDRESS, auto_error=False, description="A token, or the session cookie.")


async def _backend(request: Request) -> Backend:  # FastAPI calls a plain function in a thread
    backend: Backend = request.app.state.backend
    return backend


TheBackend = Annotated[Backend, Depends(_backend)]


async def _maybe_caller(
    request: Request, backend: TheBackend, token: Annotated[str | None, Depends(bearer)]
) -> User | None:
    """Return the user of the token, otherwise of the session, whose origin the middleware has checked.

    Raises `NotSignedIn` for a bad token, even with a good session. Under a foreign name nobody is a caller.
    """
    if getattr(request.state, "is_stranger", False):
        return None
    if token is not None:
        return (await backend.accounts.token(token)).user
    authority: Authority | None = getattr(request.state, "authority", None)
    return authority.user if authority else None


MaybeCaller = Annotated[User | None, Depends(_maybe_caller)]


async def _known_caller(
    request: Request, backend: TheBackend, token: Annotated[str | None, Depends(bearer)]
) -> User | None:
    """Return the caller, or None while the database that knows the callers cannot be read."""
    try:
        return await _maybe_caller(request, backend, token)
    except StoreRefused:
        return None


KnownCaller = Annotated[User | None, Depends(_known_caller)]


async def _caller(caller: MaybeCaller) -> User:
    if caller is None:
        raise NotSignedIn
    return caller


Caller = Annotated[User, Depends(_caller)]
