"""What both programs agree on; it imports neither.

api_error, child_api      HTTP: errors, and what a coordinator and its child say to each other
routes, hosts             which path means which route, and which Host headers are taken
chat_body, content_coding a request's body: compressed or not, and what is refused before a closer look
child_environment         what a child is told through its environment
claim_deadline            until when a coordinator has claimed its logins
run_folder, exit_codes    what a child leaves behind
storage_state, keys       what a login profile and a key file are, and whom a key admits
proxies                   what HTTPS_PROXY and NO_PROXY mean
errors, files, listener, logs, models, processes
"""

import os

# Pydantic would look for plug-ins of its own among all packages that are installed, at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
