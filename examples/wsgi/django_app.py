"""A Django project in one file, which looks up files at Box.

export BOX_CLIENT_ID=... BOX_CLIENT_SECRET=...
gunicorn django_app:app
"""

from __future__ import annotations

from box_api import api
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__)


def look_up(request: HttpRequest, file_id: str) -> JsonResponse:
    """Return what the API knows about a file."""
    return JsonResponse(api.get(f"/2.0/files/{file_id}").raise_for_status().json())


urlpatterns = [path("files/<file_id>", look_up)]
app = get_wsgi_application()
