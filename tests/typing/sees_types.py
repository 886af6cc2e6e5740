"""What a type checker sees of a task: checked by `test_types.py`, never run."""

from typing import Any

from typing_extensions import assert_type

from fastq import AsyncResult, FastQ, GroupResult, ResultSet, Signature, Task, chain, chord, group

app = FastQ("typed")


@app.task
def add(a: int, b: int = 0) -> int:
    return a + b


@app.task(bind=True, max_retries=5)
def fetch(self: Task[..., str], url: str) -> str:
    return url


@app.task(name="named", queue="slow")
def named(x: float) -> list[float]:
    return [x]


@app.task
async def ask(question: str) -> bytes:
    return question.encode()


def calls() -> None:
    assert_type(add.delay(1, 2), AsyncResult[int])
    assert_type(add.delay(1).get(timeout=1), int)
    assert_type(add.apply_async((1, 2), countdown=3, queue="q").get(), int)
    assert_type(add(1, b=2), int)
    assert_type(fetch.delay("http://localhost").get(), str)
    assert_type(named.delay(1.0).get(), list[float])
    assert_type(ask.delay("why").get(), bytes)
    assert_type(add.apply_many([(1, 2)]), list[AsyncResult[int]])


def sets() -> None:
    results = ResultSet(add.apply_many([(1, 2)]))
    assert_type(results, ResultSet[int])
    assert_type(results.get(timeout=1), list[int])
    assert_type(results.join(progress=True), list[int])
    assert_type(next(results.iterate()), int)
    assert_type(results[0].get(), int)
    assert_type([each.get() for each in results[:2]], list[int])
    group = GroupResult("id", [named.delay(1.0)])
    assert_type(group.get(), list[list[float]])
    assert_type(group.save(), GroupResult[list[float]])
    assert_type(app.GroupResult("id", [fetch.delay("u")]).get(), list[str])


def signatures() -> None:
    assert_type(add.s(1, b=2), Signature[int])
    assert_type(add.si(1).set(queue="q").clone((2,)), Signature[int])
    assert_type(add.signature((1, 2), countdown=3).delay(), AsyncResult[int])
    assert_type(add.s(1, 2).apply_async(countdown=3).get(), int)
    assert_type(add.s(1, 2).on_error(fetch.s()).apply().get(), int)
    assert_type(~add.s(1, 2), int)
    assert_type(add.s(1)(2), int)
    assert_type(app.signature("any.task"), Signature[Any])
    steps: chain = add.s(1, 2) | add.s(3)
    steps()
    group(add.s(1, 2), steps)()
    chord([add.s(1, 2)], named.s())()


async def awaits() -> None:
    result = await add.adelay(1, 2)
    assert_type(await result.aget(), int)
    assert_type(await result, int)
    assert_type(await ResultSet([result]), list[int])


def mistakes() -> None:
    add.delay("1")  # type: ignore[arg-type]
    add.delay(1, 2, 3)  # type: ignore[call-arg]
    add.delay(c=1)  # type: ignore[call-arg]
    add.apply_async((1,), countdwon=3)  # type: ignore[call-arg]
    fetch.delay(b"bytes")  # type: ignore[arg-type]
