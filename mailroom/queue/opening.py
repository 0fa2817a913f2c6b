"""Choose the queue that a URL names."""

from mailroom.queue.memory import MemoryQueue
from mailroom.queue.port import Queue
from mailroom.queue.rabbitmq import RabbitQueue


def open_queue(url: str) -> Queue:
    """A queue for this URL: `memory:` or `amqp://host[,host…]/vhost`; connects in the background and stays at it."""
    if url == "memory:":
        return MemoryQueue()
    return RabbitQueue(url)
