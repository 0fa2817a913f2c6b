"""How gunicorn serves flask_celery.py."""

import os

bind = f"127.0.0.1:{os.environ['PORT']}"
workers = 2
worker_class = "gthread"
# 4 and 32 took in less, 8 as much.
threads = 16
# More than any load here opens; the default closes idle connections after two seconds.
keepalive = 30


def post_worker_init(_: object) -> None:
    """Say that one more process serves."""
    print("ready", flush=True)
