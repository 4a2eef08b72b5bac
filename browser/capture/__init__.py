"""Getting an answer out of the page, while it is written.

- capture.py: arms the hook (hook.js) in the page before a prompt is sent
- frames.py: what the hook sends, in order, over a sink: stream_port.py, or console_sink.py; a page takes it by its
  stream_receiver.py
- answer.py: one answer: frames in, findings out; falls back from the traffic to what the page shows
- network_reader.py: reads the page's traffic: framing.py cuts it into events, a site file's expressions read these
- dom_reader.py: reads what the page shows (dom.js), told by the hook or looked at by dom_poll.py
- findings.py: what both find: text, progress, the end, a refusal, a loss
- trace.py: how each event was read, for `python -m browser.check`

A further kind of traffic, such as protobuf over a WebSocket, is one class in framing.py, which makes events of bytes,
with its line in WIRE_FORMATS and its name in `browser.site.schema.NetworkKind` (what a site file must then say is
checked in `Network`, beside it). The hook, the readers and the checker stay as they are.
"""
