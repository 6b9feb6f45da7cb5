"""The rules of replication by name, each with what it says: the model runs without one of them to show that it is needed."""

from __future__ import annotations

from typing import Final

RULES: Final[dict[str, str]] = {
    # claim and fence
    "fence_last_opened": "a claim needs promises of a majority of the replica set that was opened last, and of no other",
    "promise_durable": "a promise leaves when it is durable",
    "obey_promise": "a replica refuses an append of an epoch older than its promise",
    "never_resume": "a primary that stopped claims anew and never goes on in its epoch",
    # choose and open
    "choose_newest": "the log is taken from the promise with the greatest (log epoch, length)",
    "not_longest": "a longer log of an older log epoch does not win",
    "log_epoch_not_record_epoch": "the epoch in which a log was verified decides, not the epoch of its last record",
    "donor_as_promised": "a log is taken only from the directory that promised it, and only as it was promised",
    "commit_after_opened": "nothing is committed in an epoch before it is recorded as opened",
    "opened_newest_claim": "an epoch is recorded as opened only while no newer claim exists",
    "opened_verified": "an epoch is proposed as opened when a majority of its set has verified the log up to its start",
    # append and acknowledge
    "check_previous": "an append follows on a record that both logs have",
    "cut_on_conflict": "a suffix is cut only where records differ, or when the log epoch rises",
    "cut_durable": "a cut is a fact of the journal, made again when the journal is read",
    "rise_at_start": "a log counts as verified in an epoch only when it agrees up to the start of the epoch",
    "ack_durable": "an acknowledgement leaves after the sync",
    "ack_own_epoch": "an acknowledgement counts in its own epoch only",
    "majority_of_set": "a commit needs a majority of the epoch's own set",
    "apply_verified": "a follower applies only what it verified in the epoch that says it is committed",
    # identity and torn tails
    "count_identity": "promises and acknowledgements of a replica that lost its directory do not count as its old self's",
    "doubt_torn": "a replica with a torn tail counts in no fence, unless every member answers, until an epoch opens with it",
    "torn_obeys_newest": "a replica with a torn tail obeys the newest claim first: it may have promised that one",
    # restarts and checkpoints
    "apply_known_commit": "a replica that starts applies what a durable note says is committed, not all that is durable",
    "carry_suffix": "a checkpoint carries the uncommitted suffix",
    "carry_promise": "a checkpoint carries the promise",
    # the gate
    "answer_confirmed": "an answer leaves after a majority of the set confirmed the epoch",
    "confirm_after_question": "the confirmation began after the question",
    "answer_committed": "an answer leaves after the commit of what it rests on",
}
