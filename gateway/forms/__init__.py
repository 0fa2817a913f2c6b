"""Intake of the Email API Version 2: `POST /genesys/2/email/{serviceName}`."""
