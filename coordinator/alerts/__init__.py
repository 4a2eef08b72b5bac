"""Webhooks: what an operator should be told of, and its delivery, signed, to the address in `ALERT_URL`.

`Conditions` decides what is told, `Alerts` feeds it from the fleet, `Sender` keeps the order and tries again, and
`Receiver` is the other end of one POST.
"""
