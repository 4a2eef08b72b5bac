# mypy: disable-error-code="import-not-found"
"""A small Streamlit app with a chat, without a login: whoever opens the page is in. `streamlit run` runs it."""

import time
from collections.abc import Iterator

import streamlit as st
from answers import PAUSE_S, begin, record


def answer(prompt: str, earlier: int) -> Iterator[str]:
    token, words = begin(prompt, earlier)
    try:
        for word in words:
            yield word
            time.sleep(PAUSE_S)
        record(done=token, answer="".join(words))
    except GeneratorExit:  # Streamlit ended the run of this script: stopped, or the page is gone
        record(stopped=token)
        raise


messages: list[tuple[str, str]] = st.session_state.setdefault("messages", [])
for role, text in messages:
    st.chat_message(role).markdown(text)
if prompt := st.chat_input("Message", submit_mode="stop"):
    st.chat_message("user").text(prompt)
    with st.chat_message("assistant"):
        reply = st.write_stream(answer(prompt, len(messages)))
    messages += [("user", prompt), ("assistant", str(reply))]
