"""Files for people to download: under which name, and how large they are said to be."""

import re
import unicodedata
from urllib.parse import quote


def attachment_named(name: str) -> str:
    """Content-Disposition of a download (RFC 6266): the name in ASCII for old clients, and as it is (RFC 8187)."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r'[^ -~]|["\\%]', "_", plain).strip() or "attachment"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def readable_size(size: int) -> str:
    """Bytes as a person says them: 512 B, 3.4 KB, 12 MB."""
    amount = float(size)
    for unit in ("B", "KB", "MB"):
        if amount < 1000:  # noqa: PLR2004 - kilo
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"  # noqa: PLR2004 - two digits
        amount /= 1000
    return f"{amount:.1f} GB"
