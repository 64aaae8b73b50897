"""django-oauth-toolkit's server, with Django and SQLite.

Required settings:

- A lifetime of 60 seconds; by default, it is ten hours.
- The token and revocation endpoints end in a slash: the server answers a POST to a URL without
  the slash with a redirect or an error, and a session follows no redirect.
- By default, a protected view refuses any request with a bare 403, also one with a revoked token.
  For a session, a 403 means a missing permission, which a new token does not fix. With
  ``advertise_metadata=True``, the view answers 401 with ``error="invalid_token"`` (RFC 6750 §3.1).
- MD5 for the hashes of secrets, so that the tests are quick.
"""

from __future__ import annotations

import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from .serving import LIFETIME, SCOPES

if TYPE_CHECKING:
    from pathlib import Path

urlpatterns: list[object] = []
"""Filled after the setup of Django, because its views cannot be imported before that."""


class DjangoServer:
    """django-oauth-toolkit's server. A process can set up Django only once."""

    name = f"django-oauth-toolkit {version('django-oauth-toolkit')} on Django {version('django')}"
    token_path = "/o/token/"
    revoke_path = "/o/revoke/"
    resource_path = "/files"
    default_path = "/silent/files"
    default_refusal = 403
    plus_is_a_space = True

    def __init__(self, database: Path) -> None:
        settings.configure(
            ALLOWED_HOSTS=["127.0.0.1"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
            INSTALLED_APPS=[
                "django.contrib.auth",
                "django.contrib.contenttypes",
                "oauth2_provider",
            ],
            OAUTH2_PROVIDER={
                "ACCESS_TOKEN_EXPIRE_SECONDS": int(LIFETIME),
                "SCOPES": {scope: scope for scope in SCOPES},
                "DEFAULT_SCOPES": [SCOPES[0]],
            },
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
            ROOT_URLCONF=__name__,
            SECRET_KEY="of the tests",
            USE_TZ=True,
        )
        django.setup()
        call_command("migrate", verbosity=0)
        self._add_views()
        self.app = get_wsgi_application()
        connections.close_all()

    def register(self, client_id: str, client_secret: str) -> None:
        """Register a client."""
        from oauth2_provider.models import Application

        Application.objects.create(
            client_id=client_id,
            client_secret=client_secret,
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
        )
        connections.close_all()

    def let_time_pass(self, seconds: float) -> None:
        """Move the expiry of every token by these seconds towards now."""
        from oauth2_provider.models import AccessToken

        AccessToken.objects.update(expires=F("expires") - datetime.timedelta(seconds=seconds))
        connections.close_all()

    def end_tokens(self) -> None:
        """Let every token expire now."""
        self.let_time_pass(LIFETIME)

    def _add_views(self) -> None:
        from oauth2_provider.decorators import protected_resource
        from oauth2_provider.views import RevokeTokenView, TokenView

        def files(request: HttpRequest) -> HttpResponse:
            return HttpResponse("files")

        scopes = ["files"]
        urlpatterns.extend(
            [
                path(self.token_path[1:], TokenView.as_view()),
                path(self.revoke_path[1:], RevokeTokenView.as_view()),
                path(
                    self.resource_path[1:],
                    csrf_exempt(protected_resource(scopes, advertise_metadata=True)(files)),
                ),
                path(self.default_path[1:], protected_resource(scopes)(files)),
            ]
        )
