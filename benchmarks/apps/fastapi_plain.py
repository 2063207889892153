"""What most people write: a pydantic body and a sync handler, which FastAPI runs in a thread."""

from typing import Any

from common import Predict
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
predict = Predict()


class Body(BaseModel):
    input: list[list[float | str | bool]]


@app.post("/predict")
def handle(body: Body) -> dict[str, Any]:
    return {"predictions": predict(body.input)}
