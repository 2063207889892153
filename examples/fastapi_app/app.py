"""An application in front of serving endpoints.

    export DATABRICKS_HOST=... DATABRICKS_TOKEN=...    # as `lakeport serve` prints them
    uvicorn app:app

Then open http://127.0.0.1:8000/docs.
"""

import os
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException

from lakeport.integrations.fastapi import serving_router


def knows_the_key(x_app_key: Annotated[str | None, Header()] = None) -> None:
    """This app's own authentication: callers send the key of the environment, where one is set."""
    key = os.environ.get("APP_KEY")
    if key and not secrets.compare_digest(key, x_app_key or ""):
        raise HTTPException(401, "Expected this app's key in the header X-App-Key.")


app = FastAPI(title="Predictions")
app.include_router(serving_router(dependencies=[Depends(knows_the_key)]), prefix="/api")
