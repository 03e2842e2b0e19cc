import eventlet

eventlet.monkey_patch()

import os  # noqa: E402

import eventlet.wsgi  # noqa: E402
from wsgi_app import app, log  # noqa: E402

log.install_signal_handler()
eventlet.wsgi.server(eventlet.listen(("127.0.0.1", int(os.environ["PORT"]))), app, log_output=False)
