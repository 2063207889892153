"""FastAPI as people tune it: an async handler, orjson both ways, no pydantic. Blocks its loop."""

import orjson
from common import Predict
from fastapi import FastAPI, Request
from fastapi.responses import Response

app = FastAPI()
predict = Predict()


@app.post("/predict")
async def handle(request: Request) -> Response:
    rows = orjson.loads(await request.body())["input"]
    content = orjson.dumps({"predictions": predict(rows)})
    return Response(content, media_type="application/json")
