"""What happens in a fleet: the events that workers and clients send, and those who watch them."""

from fastq.events.dispatcher import EventDispatcher
from fastq.events.event import Event, event_exchange, get_exchange, group_from
from fastq.events.receiver import EventReceiver

__all__ = ["Event", "EventDispatcher", "EventReceiver", "event_exchange", "get_exchange", "group_from"]
