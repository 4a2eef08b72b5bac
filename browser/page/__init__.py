"""The chat page: opened, watched, asked.

`ChatPage` is what callers use. A request goes through `ChatPage.ask`, which waits for the page, to a `Completion`
(choose the model, enter the prompt, upload images, send, read the answer), and back to an empty conversation.
`SitePage` opens the page, `PageMonitor` looks at it and recovers it, `LoginWatch` keeps the login, `PageStatus` says
how all that stands.
"""
