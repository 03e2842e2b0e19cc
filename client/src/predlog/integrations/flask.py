"""Flask: `Predlog(app)` logs each request to a route as a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask, Response, got_request_exception, request, request_finished, request_started

from predlog.integrations.http import from_settings
from predlog.integrations.sigterm import flush_at_sigterm
from predlog.integrations.wsgi import CALL, REQUEST, Middleware

if TYPE_CHECKING:
    from predlog.client import Client
    from predlog.integrations.http import Request
    from predlog.tracking import Call


class Predlog:
    """The extension; `Predlog(app)`, or `Predlog()` and `init_app(app)` later.

    Its options are the client's and those of `predlog.integrations.http.Requests`; the application's configuration may
    hold them, too, as PREDLOG_URL, PREDLOG_ROUTES and so on. Without `routes` every route is a model with the name of
    its rule. `log` is the client; one may be given.
    """

    log: Client

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Log this application's requests. Raises ValueError and TypeError for wrong options."""
        settings = {**app.config.get_namespace("PREDLOG_"), **self._options}
        self.log, options = from_settings(settings)
        # Flask's own way to put middleware in, which to mypy is a method that must not be replaced.
        app.wsgi_app = Middleware(app.wsgi_app, self.log, options.pop("routes", None), **options)  # type: ignore[method-assign]
        app.extensions["predlog"] = self
        request_started.connect(self._name, app)
        got_request_exception.connect(self._note, app)
        request_finished.connect(self._finish, app)
        flush_at_sigterm(self.log)

    @property
    def call(self) -> Call | None:
        """The call that the request is, to set metadata, version or error of; None if it is not logged."""
        call: Call | None = request.environ.get(CALL)
        return call

    def _name(self, app: Flask, **_: Any) -> None:
        call = self.call
        if call is not None and not call.model_name and request.url_rule is not None:
            call.model_name = request.url_rule.rule

    def _note(self, app: Flask, exception: BaseException, **_: Any) -> None:
        logged: Request | None = request.environ.get(REQUEST)
        if logged is not None:
            logged.raised = exception

    def _finish(self, app: Flask, response: Response, **_: Any) -> None:
        """An answer that is whole ends the call, however slowly it is read."""
        logged: Request | None = request.environ.get(REQUEST)
        if logged is not None and not response.is_streamed:
            logged.status = response.status_code
            logged.end()
