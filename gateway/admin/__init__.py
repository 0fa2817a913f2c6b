"""The operator's page: server-rendered, on the admin port, for people who are signed in."""
