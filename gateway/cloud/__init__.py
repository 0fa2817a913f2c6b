"""The platform API: integrations, credentials and domains for programs, as JSON."""
