"""One request through MLflow's scoring server and through ours, in a form that can be compared."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server

from lakeport.worker import model, protocol
from lakeport.worker.call import Call
from lakeport.worker.protocol import FrameReader
from lakeport.worker.scorer import Scorer

MAX_BODY = 1024 * 1024


@dataclass(frozen=True)
class Reply:
    status: int
    error_code: str = ""
    message: str = ""
    #: The parsed body of an answer, or its text.
    body: Any = None


@dataclass
class Pair:
    """One loaded model, behind both."""

    scorer: Scorer

    @classmethod
    def load(cls, path: Path, *, merge: bool | None = None) -> "Pair":
        return cls(Scorer(model.load(path, merge=merge), max_body=MAX_BODY))

    def ours(self, body: bytes, content_type: str = "application/json") -> Reply:
        """The answer as the worker gives it to a request on its own."""
        return self.ours_merged([body], content_type)[0]

    def ours_merged(
        self, bodies: list[bytes], content_type: str = "application/json"
    ) -> list[Reply]:
        """The answers to requests that came together."""
        calls = [
            Call(id, body, content_type, None, time.monotonic() + 60)
            for id, body in enumerate(bodies)
        ]
        if not self.scorer.model.row_wise:
            return [reply_of(self.scorer.answer(call)) for call in calls]
        answers = {
            call.id: frame for answered in self.scorer.batch(calls) for call, frame in answered
        }
        assert sorted(answers) == list(range(len(bodies)))
        return [reply_of(answers[id]) for id in range(len(bodies))]

    def mlflows(self, body: bytes, content_type: str = "application/json") -> Reply:
        pyfunc: PyFuncModel = self.scorer.model._pyfunc
        schema = pyfunc.metadata.get_input_schema()
        try:
            answer = scoring_server.invocations(body, content_type, pyfunc, schema)
        except MlflowException as error:
            return Reply(error.get_http_status_code(), str(error.error_code), error.message)
        if answer.status != 200:
            return Reply(answer.status, message=answer.response)
        return Reply(200, body=json.loads(answer.response, parse_constant=lambda _: None))


def reply_of(frame: bytes) -> Reply:
    (read,) = FrameReader(protocol.MAX_ANSWER).feed(frame)
    note = json.loads(read.note or b"{}")
    if error := note.get("error"):
        return Reply(read.status, error["error_code"], error["message"])
    return Reply(read.status, body=json.loads(read.body))
