"""What becomes of a server's error replies."""

from __future__ import annotations

import pytest
from hiredis import ReplyError

from fastq.brokers.redis.connection import ServerRefused, checked
from fastq.exceptions import OperationalError

PASSING = {
    "READONLY You can't write against a read only replica.": "name the master",
    "ERR Error running script (call to f_1): @user_script: 34: -READONLY You can't write.": "name the master",
    "OOM command not allowed when used memory > 'maxmemory'.": "maxmemory",
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.": "its disk",
    "LOADING Redis is loading the dataset in memory": "from disk",
    "NOREPLICAS Not enough good replicas to write.": "min-replicas-to-write",
    "NOAUTH Authentication required.": "password",
    "ERR Protocol error: unauthenticated multibulk length": "password",
}
LASTING = {
    "WRONGPASS invalid username-password pair or user is disabled.": "correct",
    "NOPERM User ann has no permissions to run the 'evalsha' command": "grant",
    "MOVED 3999 127.0.0.1:6381": "Redis Cluster",
    "CROSSSLOT Keys in request don't hash to the same slot": "Redis Cluster",
    "WRONGTYPE Operation against a key holding the wrong kind of value": "global_keyprefix",
    "ERR unknown command 'EVALSHA', with args beginning with: ": "proxy",
    "ERR The user executing the script can't publish to the channel mentioned in the command "
    f"script: {'a1' * 20}, on @user_script:72.": r"in the command: grant",
    "ERR something else": "something else",
}


@pytest.mark.parametrize(("error", "advice"), PASSING.items())
def test_what_passes_is_tried_again_and_says_what_to_do(error: str, advice: str) -> None:
    with pytest.raises(OperationalError, match=advice) as caught:
        checked(ReplyError(error))
    assert caught.value.is_passing


@pytest.mark.parametrize(("error", "advice"), LASTING.items())
def test_what_lasts_is_raised_at_once_and_says_what_to_do(error: str, advice: str) -> None:
    with pytest.raises(ServerRefused, match=advice) as caught:
        checked(ReplyError(error))
    assert not caught.value.is_passing
