from bench import phases

JOURNAL = """\
1796049067.019891 hub jupyterhub-broker[5622]: look for alice: done
1796049068.580189 hub jupyterhub-broker[5629]: start for alice, session 1958: job 7
1796049068.686484 hub python[2223]: [I GridHub sge_spawner:173] Session of alice is job 7
1796049070.363068 hub python[2223]: [I GridHub log:192] 204 POST /hub/api/sge/port (alice@::1) 1ms
1796049070.538172 hub python[2223]: [I GridHub] Session of alice answers at exec2:28917
"""
LOG = """\
[I 2026-11-30 14:31:09.823 SessionServerApp] jupyter_lsp | extension was successfully linked.
[I 2026-11-30 14:31:09.863 SessionServerApp] Writing Jupyter server cookie secret
[I 2026-11-30 14:31:10.147 SessionServerApp] Serving notebooks from local directory: /home/alice
"""


def test_the_journal_says_when_qsub_answered_and_when_the_hub_learnt_the_port():
    moments, job, worker = phases.from_journal("alice", JOURNAL)
    assert moments == {"qsub": 1796049068.580189, "told": 1796049070.363068}
    assert (job, worker) == ("7", "exec2")


def test_the_journal_of_another_person_says_nothing():
    assert phases.from_journal("bob", JOURNAL) == ({}, "", "")


def test_the_log_of_the_session_says_when_jupyter_was_imported_and_initialised():
    moments = phases.from_session(LOG)
    assert moments == {"imported": 1796049069.823, "initialised": 1796049070.147}


def test_every_moment_of_the_logs_is_a_phase():
    named = {name for name, _ in phases.PHASES}
    assert named == {*phases.JOURNAL, *phases.SESSION, "job", "ready", "page", "cell"}
