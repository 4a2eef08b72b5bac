"""Many logins on many machines, shown on one: `make test-scale`. The proofs, and which tests show each.

Those marked * are run by `make test-scale` besides this folder; the others are a part of `make test`.

1   Children of a host are each their own: tests/coordinator/local/test_hosts.py; * tests/e2e/test_host.py, with real
    browsers. One of eight ends, and no answer of the others has a gap above 0.5 s; a blocked loop is seen.
    tests/coordinator/local/test_host_of_pages.py
2   Neighbours in one browser: a script without end, a flood of the console, a browser's death, a lost cookie jar.
    * tests/e2e/test_host.py, tests/e2e/test_shared_browser.py; tests/browser/capture/test_hostile_page.py,
    tests/browser/page/test_losses.py, tests/browser/process/test_engine.py (the network service is in the browser)
3   A frame with another child's token or nonce reaches nobody: any order of pages, connections, answers and frames.
    tests/browser/capture/test_stream_port_properties.py
4   kill -9 of coordinator, host and driver leaves nothing, for one login in a browser and several; a poisonous login
    ends up alone.
    tests/coordinator/test_coordinator_death.py, tests/coordinator/local/test_hosts.py; * tests/e2e/test_host.py. Under
    any deaths of browsers, which do not multiply them: tests/coordinator/local/test_suspects.py
5   What a further login costs: benchmarks/density.py, by `make bench`. It prints its aim beside what it has measured.
6   The fence as a model, also of a store that loses its data; without the wait the model shows it.
    * tests/coordinator/claims/test_fence_model.py
7   The fence for real, in network and time namespaces, with etcd; without the wait the same test shows it.
    test_fence.py, and test_deadline.py for eight logins; * tests/e2e/test_claim_deadline.py, with real browsers
8   Claims are lost, made again, shared out, released only when nothing of a browser is left; only a holder writes a
    session. test_handover.py; * tests/coordinator/claims, one suite for every store, and tests/cells/test_claims.py
9   A thousand prompts through nginx and HAProxy are submitted once each.
    test_balancers.py for cells that claim; * tests/cells/test_balancers.py for those with fixed shares
10  Without CLAIMS and with one login to a browser nothing is there that was not there before: `make test`, and in
    tests/coordinator/local/test_hosts.py the run folder's content and the command line.

Besides, test_chaos.py: requests of many kinds through a balancer, while cells, children and the store fail.
"""
