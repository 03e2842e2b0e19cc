from __future__ import annotations

import os
import sys
from typing import Any

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    MIDDLEWARE=["predlog.integrations.django.Middleware"],
    PREDLOG={"ROUTES": {"/": os.environ["MODEL"]}},
    ROOT_URLCONF="django_site" if __name__ != "__main__" else "__main__",
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for tests",
    LOGGING_CONFIG=None,
)


def predict(request: Any) -> Any:
    return HttpResponse("1")


urlpatterns = [path("", predict)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
else:
    django.setup()
    application = get_wsgi_application()
