"""The letter that a submission becomes."""

from dataclasses import replace
from uuid import UUID

from gateway.forms.letter import LONGEST_IN_HEADER, compose
from gateway.forms.submission import Submission
from mailroom.message import Attachment, Content
from mailroom.settings import EmailOptions

MESSAGE_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
SUBMISSION = Submission(
    service="billing",
    first_name="John",
    last_name="Doe",
    from_address="john@example.org",
    subject="My order",
    text="Where is it?\n",
    mailbox="support@company.com",
    tenant="Environment",
    user_data=(("order", "42"), ("note", "a=b")),
    attachments=(Attachment(name="a.txt", media_type="text/plain", size=1, content=b"a"),),
)


def letter(submission: Submission = SUBMISSION, from_name: str | None = None, policy: str = "integration") -> Content:
    """The letter of a submission through forms@company.com."""
    return compose(submission, "forms@company.com", from_name, EmailOptions(from_policy=policy), MESSAGE_ID)


def test_letter_goes_to_the_mailbox() -> None:
    """The mailbox gets the subject, attachments and user data of the submission; answers go to the customer."""
    content = letter()

    assert (content.to, content.subject) == ("support@company.com", "My order")
    assert (content.reply_to, content.reply_to_name) == ("john@example.org", "John Doe")
    assert content.attachments == SUBMISSION.attachments
    assert content.attributes == SUBMISSION.user_data


def test_letter_says_through_whom_it_comes() -> None:
    """Under our own address the sender's name says via whom: the integration's name, or else its domain."""
    assert (letter().from_name, letter().from_address) == ("John Doe via company.com", None)
    assert letter(from_name="Company Forms").from_name == "John Doe via Company Forms"


def test_customer_in_from() -> None:
    """With from_policy "customer" the letter is from the customer, by name and address."""
    content = letter(policy="customer")

    assert (content.from_name, content.from_address) == ("John Doe", "john@example.org")


def test_text_says_who_wrote() -> None:
    """Under the customer's words stands who wrote them, through which service, and all user data."""
    assert letter().text == (
        "Where is it?\n\n________________________________________\n"
        "From: John Doe <john@example.org>\nService: billing\nTenant: Environment\n"
        f"Reference: {MESSAGE_ID}\norder: 42\nnote: a=b\n"
    )


def test_headers_for_machines() -> None:
    """Service, tenant and each pair of user data are headers too, and nothing marks the letter as automatic."""
    assert letter().headers == (
        ("X-Mailroom-Service", "billing"),
        ("X-Mailroom-Tenant", "Environment"),
        ("X-Mailroom-User-Data", "order=42"),
        ("X-Mailroom-User-Data", "note=a=b"),
    )


def test_without_tenant() -> None:
    """A service without tenant says nothing of one."""
    content = letter(replace(SUBMISSION, tenant=None))

    assert "Tenant" not in content.text
    assert "X-Mailroom-Tenant" not in dict(content.headers)


def test_long_user_data_is_no_header() -> None:
    """User data too long for a header stands in text and attributes only; at the limit it is a header."""
    fits = ("k", "v" * (LONGEST_IN_HEADER - 2))
    too_long = ("k", "w" * (LONGEST_IN_HEADER - 1))
    content = letter(replace(SUBMISSION, user_data=(fits, too_long)))

    assert [value for name, value in content.headers if name == "X-Mailroom-User-Data"] == [f"k={fits[1]}"]
    assert too_long[1] in content.text
    assert content.attributes == (fits, too_long)
