"""A judge behind an OpenAI-compatible chat endpoint (vLLM, llama.cpp, a hosted service).

Address and key are the caller's and appear in no judgment and no message: whatever the endpoint
says is searched for both before it is kept.
"""

import asyncio
from collections.abc import Iterator, Sequence

from chesboard.judging.answers import JudgedAnswer, JudgeError, OnJudged
from chesboard.judging.chat_client import ChatClient, Endpoint, NoReplyError
from chesboard.judging.replies import ask, read_reply
from chesboard.records import JudgmentRecord
from chesboard.reporting import Control

FAILURES_IN_A_ROW = 8
"""Answers in a row for which no reply was had, after which the run fails: the endpoint is away,
and going on would only leave every answer without a verdict."""
CHECK_SECONDS = 0.25
"""Between two checks whether the run was cancelled."""


class EndpointJudge:
    """Asks a language model about each answer, several at a time."""

    def __init__(self, endpoint: Endpoint, model: str, question: str) -> None:
        """question: holds {answer}, and {prompt} if the judge is to see it."""
        self._endpoint = endpoint
        self._model = model
        self._question = question

    def judge(self, answers: Sequence[JudgedAnswer], control: Control, on_judged: OnJudged) -> None:
        """See `Judge`. An answer without a verdict has a reason instead.

        Raises:
            JudgeError: the endpoint cannot be reached, or refuses all that is asked of it.
        """
        asyncio.run(self._judge_all(answers, control, on_judged))

    async def _judge_all(
        self, answers: Sequence[JudgedAnswer], control: Control, on_judged: OnJudged
    ) -> None:
        async with ChatClient(self._endpoint, self._model) as client:
            asking = _Asking(client, self._question, on_judged)
            waiting = iter(answers)
            tasks = {
                asyncio.create_task(asking.work_off(waiting))
                for _ in range(min(self._endpoint.concurrency, len(answers)))
            }
            running = tasks
            try:
                while running:
                    control.check()
                    done, running = await asyncio.wait(
                        running, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            asking.finish()


class _Asking:
    """What the tasks of one judge share.

    Answers without a reply are held back until another one has one: if none ever has, the run
    fails, and asks about them again when it is resumed.
    """

    def __init__(self, client: ChatClient, question: str, on_judged: OnJudged) -> None:
        self._client = client
        self._question = question
        self._on_judged = on_judged
        self._held: list[JudgmentRecord] = []
        self._has_replied = False

    async def work_off(self, waiting: Iterator[JudgedAnswer]) -> None:
        """Judge answers until none waits."""
        for answer in waiting:
            failure = None
            try:
                said = await self._client.reply(ask(self._question, answer))
            except NoReplyError as error:
                failure = error
            if failure is not None:
                self._hold(answer, failure)
                continue
            reply = read_reply(said)
            reason = reply.reason and self._client.without_secrets(reply.reason)
            self._on_judged([*self._held, answer.judged(reply.verdict, reply.score, reason)])
            self._held = []
            self._has_replied = True

    def finish(self) -> None:
        """Hand over what is held back, now that no answer waits.

        Raises:
            JudgeError: not one answer had a reply.
        """
        if self._held and not self._has_replied:
            raise self._failed()
        self._on_judged(self._held)

    def _hold(self, answer: JudgedAnswer, failure: NoReplyError) -> None:
        if not failure.is_retryable and self._has_replied:
            self._on_judged([answer.judged(None, reason=str(failure))])
            return
        self._held.append(answer.judged(None, reason=str(failure)))
        if len(self._held) >= FAILURES_IN_A_ROW:
            raise self._failed()

    def _failed(self) -> JudgeError:
        return JudgeError(
            f"No reply was had for {len(self._held)} answers in a row. The last time: "
            f"{self._held[-1].reason} What was judged before is kept when the run is resumed."
        )
