"""The line of events: each visitor in turn, however many events one of them has waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.queueing import Event, Queue
from starlette.exceptions import HTTPException

from whylens.core.words import number_of
from whylens.ui.page.visitor_address import visitor_address

# A page has a handful of events under way; whoever has more than this waiting runs a script.
MOST_WAITING = 24
MOST_IN_ALL = 1000
MOST_UNREAD = 500  # messages of a session: its answers, and the steps to them

# Who takes turns: a session's name, or the address of whoever gives none. A pair, so that no name
# of a session can be another's address.
Visitor = tuple[str, str]


def visitor_of(event: Event) -> Visitor:
    """Return whose turn an event takes.

    An event that came without a session's name is a session of its own to Gradio: all those of one
    address are one visitor here.
    """
    if event.session_hash == event._id:
        return "address", visitor_address(event.request.scope)
    return "session", event.session_hash


class FairLine(list[Event]):
    """Waiting events in the order in which they are served: one of each visitor, then the next.

    Gradio appends what comes and takes the first.
    """

    def __init__(self) -> None:
        """Make an empty line."""
        super().__init__()
        self._rounds: list[int] = []  # of each event
        self._round = 0  # of what was taken out last
        self._last: dict[Visitor, int] = {}  # the latest round that each visitor has an event in

    def append(self, event: Event) -> None:
        """Put an event into the first round, from the present one on, that has none of its visitor.

        Source: start-time fair queueing (Goyal, Vin and Cheng 1997), all events of one length.
        """
        if not self:
            self._last.clear()
        visitor = visitor_of(event)
        own = max(self._round, self._last.get(visitor, -1) + 1)
        self._last[visitor] = own
        place = next((i for i, round_ in enumerate(self._rounds) if round_ > own), len(self))
        self.insert(place, event)
        self._rounds.insert(place, own)

    def remove(self, event: Event) -> None:
        """Take an event out, to be served or because it is not wanted any more."""
        place = self.index(event)
        del self[place]
        own = self._rounds.pop(place)
        if place == 0:
            self._round = own


class FairQueue(Queue):  # type: ignore[misc]  # Gradio has no types here
    """Gradio's queue, but each visitor in turn and with at most so many events waiting."""

    def __init__(self, limits: Mapping[str, int], **options: Any) -> None:
        """Make an empty queue.

        Args:
            limits: By a queue's concurrency id, how many of its events run at a time.
            options: As Gradio's own takes them.
        """
        # Of those that a page needs to begin with, and of all others; Gradio knows of no two.
        self._most: int | None = options["max_size"]
        super().__init__(**{**options, "max_size": None})
        self._limits = dict(limits)
        # Gradio's name. It remembers ten thousand events, and whenever one ends makes a table of
        # all of them, for which no page asks; meanwhile the server serves nobody.
        self.ANALYTICS_MAX_EVENTS = 0
        self._opening = _opening_events(self.blocks)

    def create_event_queue_for_fn(self, block_fn: BlockFunction) -> None:
        """Make the line of an event's queue, if it has none yet."""
        exists = block_fn.concurrency_id in self.event_queue_per_concurrency_id
        super().create_event_queue_for_fn(block_fn)
        line = self.event_queue_per_concurrency_id[block_fn.concurrency_id]
        if not exists:
            line.queue = FairLine()
        line.concurrency_limit = self._limits.get(line.concurrency_id, line.concurrency_limit)

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Return whether an event was put in line, its id or why not, and how to call that.

        Raises:
            HTTPException: Too many of the visitor's wait.
        """
        # To Gradio an empty name is none here and one there.
        body.session_hash = body.session_hash or None
        visitor = "session", body.session_hash
        if body.session_hash is None:
            visitor = "address", visitor_address(request.scope)
        waiting_count = sum(
            visitor_of(event) == visitor
            for line in self.event_queue_per_concurrency_id.values()
            for event in line.queue
        )
        if waiting_count >= MOST_WAITING:
            # What Gradio calls a full queue loses its reason on the way.
            raise HTTPException(
                429,
                f"You have {number_of(waiting_count, 'question')} waiting already; the most is "
                f"{MOST_WAITING}. Wait for their answers, or cancel some.",
            )
        unread = self.pending_messages_per_session.get(body.session_hash)
        if unread is not None and unread.qsize() >= MOST_UNREAD:
            raise HTTPException(
                429,
                f"{unread.qsize()} answers and steps wait for you to read them; the most is "
                f"{MOST_UNREAD}. Read them first.",
            )
        opening = body.fn_index in self._opening
        in_line = sum(
            (event.fn._id in self._opening) == opening
            for line in self.event_queue_per_concurrency_id.values()
            for event in line.queue
        )
        if self._most is not None and in_line >= self._most:
            return False, f"{in_line} questions wait already, the most. Try again.", "queue_full"
        if unread is not None:  # else the first to come is the first whose answers are forgotten
            self.pending_messages_per_session.move_to_end(body.session_hash)
        pushed = await super().push(body, request, username)
        # Gradio forgets the messages of those who never read, but not what they asked.
        readable = self.pending_messages_per_session
        if len(self.pending_event_ids_session) > len(readable):
            for visit in self.pending_event_ids_session.keys() - set(readable):
                self.pending_event_ids_session.pop(visit)
        return pushed

    def send_message(self, event: Event, event_message: Any) -> None:
        """Put a message where its visitor reads it, if it is still kept."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)


def _opening_events(page: gr.Blocks) -> frozenset[int]:
    """Return the numbers of the events that fill a page when it is opened, and of what follows.

    Without them nothing on the page can be used: they are not refused because questions wait.
    """
    opening = {n for n, fn in page.fns.items() if any(kind == "load" for _, kind in fn.targets)}
    while more := {n for n, fn in page.fns.items() if fn.trigger_after in opening} - opening:
        opening |= more
    return frozenset(opening)


def use_fair_queue(page: gr.Blocks, limits: Mapping[str, int]) -> None:
    """Give a page the queue, in place of the one that `page.queue()` gave it.

    Args:
        limits: As FairQueue takes them.
    """
    own = page._queue
    page._queue = FairQueue(
        limits,
        live_updates=own.live_updates,
        concurrency_count=own.max_thread_count,
        update_intervals=own.update_intervals,
        max_size=own.max_size,
        blocks=page,
        default_concurrency_limit=own.default_concurrency_limit,
    )
