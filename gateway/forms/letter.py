"""The letter that a form submission becomes: written by us, on behalf of the customer, to the service's mailbox."""

from uuid import UUID

from gateway.forms.submission import Submission
from mailroom.message import Content
from mailroom.settings import EmailOptions

#: Bytes of one `userData` line that still goes into a header. Servers cut or refuse a header block that grows too long
#: (Postfix at 100 kB); what is longer stands in the text and in the message's attributes only.
LONGEST_IN_HEADER = 1000

_RULE = "_" * 40


def compose(
    submission: Submission,
    integration_from_address: str,
    integration_from_name: str | None,
    options: EmailOptions,
    message_id: UUID,
) -> Content:
    """What the mailbox will read: the customer's words, then who wrote them, from where, and what came along."""
    name = f"{submission.first_name} {submission.last_name}"
    words = submission.text.rstrip()
    from_name, from_address = _sender(name, submission, integration_from_address, integration_from_name, options)
    return Content(
        to=submission.mailbox,
        subject=submission.subject,
        text=f"{words}\n\n{_RULE}\n{_about(name, submission, message_id)}",
        words=len(words),
        from_name=from_name,
        from_address=from_address,
        reply_to=submission.from_address,
        reply_to_name=name,
        headers=_headers(submission),
        attributes=submission.user_data,
        attachments=submission.attachments,
    )


def _sender(
    name: str, submission: Submission, own_address: str, own_name: str | None, options: EmailOptions
) -> tuple[str, str | None]:
    """Display name and address of From; the address None is the integration's own."""
    if options.from_policy == "customer":
        # Only where the mailbox's server trusts ours: elsewhere the DMARC policy of the customer's domain forbids it.
        return name, submission.from_address
    # The address under the name is ours, so the name says so.
    return f"{name} via {own_name or own_address.rpartition('@')[2]}", None


def _about(name: str, submission: Submission, message_id: UUID) -> str:
    lines = [
        f"From: {name} <{submission.from_address}>",
        f"Service: {submission.service}",
    ]
    if submission.tenant:
        lines.append(f"Tenant: {submission.tenant}")
    lines.append(f"Reference: {message_id}")
    lines += [f"{key}: {value}" for key, value in submission.user_data]
    return "\n".join(lines) + "\n"


def _headers(submission: Submission) -> tuple[tuple[str, str], ...]:
    """The same for machines.

    There is no Auto-Submitted among them (RFC 3834 section 5): a person wrote this, and wants the contact centre's
    acknowledgement, which that header would suppress.
    """
    headers = [("X-Mailroom-Service", submission.service)]
    if submission.tenant:
        headers.append(("X-Mailroom-Tenant", submission.tenant))
    pairs = (f"{key}={value}" for key, value in submission.user_data)
    headers += [("X-Mailroom-User-Data", pair) for pair in pairs if len(pair.encode()) <= LONGEST_IN_HEADER]
    return tuple(headers)
