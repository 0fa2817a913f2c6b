"""The vendor's own Python client, unmodified, against our gateway: the life of an integration from token to deletion."""

import json
from typing import Any

import pytest

from tests.journeys.office import Office
from tests.journeys.program import program
from tests.smtp_server import scripted_smtp

TYPE = "custom-smtp-server"


def of_our_type(sdk: Any, name: str | None = None) -> Any:
    """A CreateIntegrationRequest for our type."""
    request = sdk.CreateIntegrationRequest()
    request.name = name
    request.integration_type = sdk.IntegrationType()
    request.integration_type.id = TYPE
    return request


def wanting(sdk: Any, state: str) -> Any:
    """An Integration that says nothing but its intended state."""
    changed = sdk.Integration()
    changed.intended_state = state
    return changed


async def test_the_life_of_an_integration(office: Office, sdk: Any) -> None:
    """Token, create, read and put the configuration, enable, list, disable, delete: all as its methods expect it."""
    async with scripted_smtp() as smtp, office.gateway(), office.worker():
        life = await program(office, sdk)
        created = await life.does(lambda api: api.post_integrations(body=of_our_type(sdk)))
        current = await life.does(lambda api: api.get_integration_config_current(created.id))
        current.name = "Mail server"
        current.properties = {"smtpHost": "127.0.0.1", "smtpPort": smtp.port, "smtpSecurity": "none", "mine": ["kept"]}
        put = await life.does(lambda api: api.put_integration_config_current(created.id, body=current))
        enabled = await life.does(lambda api: api.patch_integration(created.id, body=wanting(sdk, "ENABLED")))
        active = await life.becomes(created.id, "ACTIVE")
        listed = await life.does(lambda api: api.get_integrations(integration_type=TYPE, reported_state="Active"))
        disabled = await life.does(lambda api: api.patch_integration(created.id, body=wanting(sdk, "DISABLED")))
        deleted = await life.does(lambda api: api.delete_integration(created.id))
        with pytest.raises(sdk.rest.ApiException) as gone:
            await life.does(lambda api: api.get_integration(created.id))

    assert (created.name, created.intended_state, created.reported_state.code) == (
        "Custom SMTP Server", "DISABLED", "INACTIVE",
    )  # fmt: skip
    assert (current.version, put.version, put.name) == (1, 2, "Mail server")
    assert put.properties == current.properties
    assert (enabled.intended_state, enabled.reported_state.code) == ("ENABLED", "ACTIVATING")
    assert active.reported_state.detail.message == "it may send"
    assert active.reported_state.last_updated.tzinfo is not None
    assert [(one.id, one.name) for one in listed.entities] == [(created.id, "Mail server")]
    assert (listed.total, listed.page_count, listed.page_size) == (1, 1, 25)
    assert (disabled.intended_state, disabled.reported_state.code) == ("DISABLED", "INACTIVE")
    assert (deleted.id, deleted.intended_state) == (created.id, "DELETED")
    assert (gone.value.status, json.loads(gone.value.body)["code"]) == (404, "not.found")


async def test_an_account_with_a_log_in(office: Office, sdk: Any) -> None:
    """A credential made by the package is what the integration logs in with; a wrong one is told as ERROR's cause."""
    async with scripted_smtp(username="forms", password="right") as smtp, office.gateway(), office.worker():
        life = await program(office, sdk)
        credential = sdk.Credential()
        credential.name, credential.type = "forms", sdk.CredentialType()
        credential.type.id = "basicAuth"
        credential.credential_fields = {"userName": "forms", "password": "wrong"}
        kept = await life.does(lambda api: api.post_integrations_credentials(body=credential))
        created = await life.does(lambda api: api.post_integrations(body=of_our_type(sdk, "With a log-in")))
        current = await life.does(lambda api: api.get_integration_config_current(created.id))
        current.properties = {"smtpHost": "127.0.0.1", "smtpPort": smtp.port, "smtpSecurity": "none"}
        current.credentials = {"basicAuth": kept}
        await life.does(lambda api: api.put_integration_config_current(created.id, body=current))
        await life.does(lambda api: api.patch_integration(created.id, body=wanting(sdk, "ENABLED")))
        refused = await life.becomes(created.id, "ERROR")
        credential.credential_fields = {"password": "right"}
        await life.does(lambda api: api.put_integrations_credential(kept.id, body=credential))
        await life.becomes(created.id, "ACTIVE")
        seen = await life.does(lambda api: api.get_integrations_credential(kept.id))
        using = await life.does(lambda api: api.get_integrations(credential_id=kept.id))

    assert refused.reported_state.detail.localizable_message_code == "custom.smtp.server.authentication.refused"
    assert (seen.name, seen.type.name, seen.credential_fields) == ("forms", "basicAuth", None)
    assert [one.id for one in using.entities] == [created.id]


async def test_domains_choose_their_integration(office: Office, sdk: Any) -> None:
    """The package adds domains of both kinds, points them to an integration, and has a letter of one sent."""
    async with scripted_smtp() as smtp, office.everything(smtp.port):
        life = await program(office, sdk)
        main = str((await office.integration()).id)
        await life.routes(lambda api: api.post_routing_email_domains(body={"id": "Company.test", "subDomain": False}))
        pointed = await life.routes(
            lambda api: api.patch_routing_email_domain("company.test", body={"customSMTPServer": {"id": main}})
        )
        added = await life.routes(
            lambda api: api.post_routing_email_outbound_domains(body={"id": "news.test", "name": "news.test"})
        )
        outbound = await life.routes(
            lambda api: api.patch_routing_email_outbound_domain(
                "news.test", body={"customSMTPServer": {"id": main}, "senderType": "EmailSmtpDomain"}
            )
        )
        letter = sdk.TestMessage()
        letter.to, letter.pcFrom = [{"email": "jane@customer.test"}], {"email": "support@company.test"}
        letter.subject, letter.text_body = "A try", "Does it arrive?"
        sent = await life.routes(lambda api: api.post_routing_email_domain_testconnection("company.test", body=letter))
        listed = await life.routes(lambda api: api.get_routing_email_domains())
        mail = office.parsed(smtp.completed[0].content)

    assert (pointed.id, pointed.custom_smtp_server.id) == ("company.test", main)
    assert (added.domain_name, added.sender_status) == ("news.test", "Provisioned")
    assert outbound.sender_type == "EmailSmtpDomain"
    assert [one.name for one in listed.entities] == ["company.test"]
    assert (mail["Message-ID"], mail["From"].addresses[0].addr_spec, mail["Subject"]) == (
        sent.id, "support@company.test", "A try",
    )  # fmt: skip


async def test_a_clash_of_versions_is_told_as_the_package_knows_it(office: Office, sdk: Any) -> None:
    """Who puts a configuration that somebody else changed gets HTTP 409, and in words which versions clash."""
    async with office.gateway():
        life = await program(office, sdk)
        created = await life.does(lambda api: api.post_integrations(body=of_our_type(sdk, "Twice")))
        current = await life.does(lambda api: api.get_integration_config_current(created.id))
        await life.does(lambda api: api.put_integration_config_current(created.id, body=current))
        with pytest.raises(sdk.rest.ApiException) as clash:
            await life.does(lambda api: api.put_integration_config_current(created.id, body=current))

    assert clash.value.status == 409
    assert "does not match the current version" in json.loads(clash.value.body)["message"]
