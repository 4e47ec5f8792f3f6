"""The reference of `requests`: one FastAPI route with a JWT check, as anybody would write it, and nothing else.

`python -m tests.bench.bare_app PORT SECRET` serves it on the same Uvicorn.
"""

import sys
from typing import Annotated

import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer

ALGORITHM = "HS256"
PATH = "/bare"
bearer = OAuth2PasswordBearer(tokenUrl="token")


def bare_app(secret: str) -> FastAPI:
    """Return the app; its tokens are signed with `secret`."""
    app = FastAPI()

    async def caller(token: Annotated[str, Depends(bearer)]) -> str:
        try:
            return str(jwt.decode(token, secret, algorithms=[ALGORITHM])["sub"])
        except jwt.PyJWTError:
            raise HTTPException(401) from None

    @app.get(PATH)
    async def bare(name: Annotated[str, Depends(caller)]) -> dict[str, object]:
        return {"id": name, "name": name, "is_admin": False}

    return app


if __name__ == "__main__":
    uvicorn.run(bare_app(sys.argv[2]), port=int(sys.argv[1]), access_log=False, timeout_keep_alive=600)
