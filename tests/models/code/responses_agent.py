"""A ResponsesAgent that says in pieces what the user said last."""

# MLflow's own subclasses override so.
# mypy: disable-error-code="override"

from collections.abc import Iterator

from mlflow.models import set_model
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import (
    ResponsesAgentRequest,
    ResponsesAgentResponse,
    ResponsesAgentStreamEvent,
)


class Agent(ResponsesAgent):
    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        item = self.create_text_output_item(text=_said(request), id="msg_1")
        return ResponsesAgentResponse(output=[item], custom_outputs=request.custom_inputs)

    def predict_stream(self, request: ResponsesAgentRequest) -> Iterator[ResponsesAgentStreamEvent]:
        said = _said(request)
        for piece in ("You said: ", said.removeprefix("You said: ")):
            yield ResponsesAgentStreamEvent(**self.create_text_delta(piece, item_id="msg_1"))
        item = self.create_text_output_item(text=said, id="msg_1")
        yield ResponsesAgentStreamEvent(type="response.output_item.done", item=item)
        response = {"object": "response", "output": [item]}
        yield ResponsesAgentStreamEvent(type="response.completed", response=response)


def _said(request: ResponsesAgentRequest) -> str:
    last = request.input[-1].model_dump()
    return f"You said: {last['content']}"


set_model(Agent())
