"""Models in OpenAI's form."""

from __future__ import annotations

from openai.types import Model

from contract.models import model_card, model_list, model_not_found


def test_the_openai_client_takes_what_is_listed() -> None:
    listed = model_list({"small": "demo", "large": "other"})
    assert [Model.model_validate(card).id for card in listed["data"]] == ["small", "large"]
    assert listed["data"] == [model_card("small", "demo"), model_card("large", "other")]


def test_a_model_that_is_not_there_names_those_that_are() -> None:
    error = model_not_found("x" * 200, ["small", "large"])
    assert (error.status, error.param) == (404, "model")
    assert error.message.endswith("there are: small, large.")
    assert "x" * 101 not in error.message
