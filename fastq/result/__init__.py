"""Results of tasks and of groups of them, as their callers see them."""

from fastq.result.async_result import AsyncResult
from fastq.result.base import ResultBase, result_from_tuple
from fastq.result.eager import EagerResult
from fastq.result.groups import GroupResult
from fastq.result.joining import allow_join_result, assert_will_not_block, denied_join_result, may_wait
from fastq.result.sets import ResultSet

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "may_wait",
    "result_from_tuple",
]
