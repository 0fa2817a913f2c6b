"""`python -m mailroom.healthcheck URL`: ends with 0 when it answers 200, else with 1. Images have no curl for that."""

import http.client
import sys
from urllib.parse import urlsplit

#: Shorter than the time limit of docker-compose.yml, so that the reason gets told.
TIMEOUT_SECONDS = 4.0


def unhealthy(url: str) -> str | None:
    """Why the process behind an http URL is not well; None when it is."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", place.path or "/")
        answer = connection.getresponse()
        body = answer.read(1000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{url} does not answer: {error}"
    finally:
        connection.close()
    return None if answer.status == http.client.OK else f"{url} answers {answer.status}: {body}"


if __name__ == "__main__":
    sys.exit(unhealthy(sys.argv[1]) if len(sys.argv) == 2 else __doc__)  # noqa: PLR2004 - the name and the URL
