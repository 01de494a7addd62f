"""Authentication and authorization: access tokens, sessions, roles, and the rule of every route."""
