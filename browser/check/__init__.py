"""Tries a site file on the real page, step by step: `python -m browser.check --help`.

- checkup.py: the steps in order, until one fails
- steps_open.py: the login, the browser, the page, the capture
- steps_prompt.py: an empty conversation, the model, the input, the send
- steps_answer.py: the answer, and stopping one
- context.py: what the steps share
- event_log.py: the trace of the reader that reads answers (`browser.capture.trace`)
- diagnosis.py: which line of `capture.network` is wrong, by that trace
"""
