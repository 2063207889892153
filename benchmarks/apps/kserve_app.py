"""KServe's custom predictor (protocol v1): `kserve_app.py --workers N --http_port P`."""

from typing import Any

from common import Predict
from kserve import Model, ModelServer, model_server


class Served(Model):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__("m")
        self.load()

    def load(self) -> bool:
        self._predict = Predict()
        self.ready = True
        return True

    def predict(self, payload: dict[str, Any], headers: Any = None) -> dict[str, Any]:
        return {"predictions": self._predict(payload["instances"])}


if __name__ == "__main__":
    model_server.parser.parse_known_args()
    ModelServer(enable_grpc=False).start([Served()])
