"""The hosts of the table."""

from __future__ import annotations

import signal
from typing import Any

from hosts.run import Host
from misbehaving import uwsgi_is_idle

NOTHING = "nothing"
LIFESPAN = "`asgi.Middleware` or `fastapi.lifespan(log)`"
HANDLER = "or `log.install_signal_handler()`"
POOL = "`pool.close()` and `pool.join()`"
GUNICORN = "-m gunicorn --bind 127.0.0.1:{port} --workers 2 --log-level warning"


def program(name: str, arguments: str, advice: str = NOTHING, *needs: str, sent: int = 1000, **options: Any) -> Host:
    return Host(name, f"programs.py {arguments}", advice, needs, sent=sent, ready="", **options)


HOSTS = [
    Host("gunicorn, sync", f"{GUNICORN} wsgi_app:app", NOTHING, ("gunicorn",)),
    Host(
        "gunicorn, sync, `--preload --max-requests 50`",
        f"{GUNICORN} --preload --max-requests 50 wsgi_app:app",
        NOTHING,
        ("gunicorn",),
    ),
    Host("gunicorn, gthread", f"{GUNICORN} -k gthread --threads 4 wsgi_app:app", NOTHING, ("gunicorn",)),
    Host(
        "gunicorn, gevent, `--preload`", f"{GUNICORN} -k gevent --preload wsgi_app:app", NOTHING, ("gunicorn", "gevent")
    ),
    Host("eventlet.wsgi", "eventlet_server.py", "`log.install_signal_handler()`", ("eventlet",)),
    Host(
        "gunicorn, UvicornWorker",
        f"{GUNICORN} -k uvicorn_worker.UvicornWorker asgi_app:app",
        LIFESPAN,
        ("gunicorn", "uvicorn_worker"),
    ),
    Host(
        "uvicorn, FastAPI",
        "-m uvicorn --port {port} --log-level warning fastapi_app:app",
        "`fastapi.Middleware` or `fastapi.lifespan(log)`",
        ("uvicorn", "fastapi"),
    ),
    Host(
        "uvicorn, `--workers 2`, no lifespan",
        "-m uvicorn --port {port} --workers 2 --log-level warning asgi_app:app",
        LIFESPAN,
        ("uvicorn",),
    ),
    Host("granian, WSGI", "-m granian --interface wsgi --port {port} wsgi_app:app", NOTHING, ("granian",)),
    Host("granian, ASGI", "-m granian --interface asgi --port {port} asgi_app:app", NOTHING, ("granian",)),
    Host(
        "uWSGI",
        "{bin}/uwsgi --http-socket 127.0.0.1:{port} --module wsgi_app:app --master --processes 2 --enable-threads"
        " --die-on-term --disable-logging --stats 127.0.0.1:{stats}",
        "`--enable-threads`",
        ("pyuwsgi",),
        idles=uwsgi_is_idle,
    ),
    Host("Flask's development server", "flask_app.py", f"`flask.Predlog` {HANDLER}", ("flask",)),
    Host(
        "Django's runserver, Ctrl-C",
        "django_site.py runserver {port}",
        NOTHING,
        ("django",),
        ends=signal.SIGINT,
        in_terminal=True,
    ),
    Host(
        "Django's runserver, whose reloader kills it at SIGTERM",
        "django_site.py runserver {port}",
        NOTHING,
        ("django",),
        after="programs.py sweep",
        loses=True,
    ),
    Host(
        "Django's runserver, `--noreload`",
        "django_site.py runserver --noreload {port}",
        f"`django.Middleware` {HANDLER}",
        ("django",),
    ),
    Host("Django, gunicorn", f"{GUNICORN} django_site:application", NOTHING, ("django", "gunicorn")),
    Host(
        "Celery, prefork, `max_tasks_per_child`",
        "-m celery -A celery_app worker -P prefork -c 2 -l WARNING",
        NOTHING,
        ("celery",),
        ready="",
        before="celery_app.py",
    ),
    program("`multiprocessing.Pool`, fork", "pool fork", POOL),
    program("`multiprocessing.Pool`, spawn", "pool spawn", POOL),
    program("`multiprocessing.Process`, fork", "processes fork"),
    program("`multiprocessing.Process`, spawn", "processes spawn"),
    program("joblib, loky", "parallel loky", NOTHING, "joblib"),
    program("joblib, multiprocessing", "parallel multiprocessing", "`log.flush()` in the function", "joblib"),
    program("a script", "script"),
    program("a script that raises", "raising"),
    program("a script that ends by `os._exit`", "os_exit", after="programs.py sweep", loses=True),
    program("a script that ends by `os._exit`, flushed", "os_exit_after_flush", "`log.flush()`"),
    program(
        "a script that ends by `os._exit` 1.5 s later",
        "abandoned",
        "`spool_dir=`",
        after="programs.py sweep",
        spool=True,
    ),
    Host(
        "BentoML",
        "-m bentoml serve bento_app:Price --port {port}",
        "`bentoml.track` or `asgi.Middleware`",
        ("bentoml",),
        ready="/readyz",
        path="/predict",
        body=b'{"rooms": 3}',
    ),
    Host(
        "LitServe, SIGINT",
        "lit_app.py",
        "`litserve.middleware`",
        ("litserve",),
        path="/predict",
        body=b'{"rooms": 3}',
        ends=signal.SIGINT,
    ),
    Host(
        "MLServer",
        "mlserver_server.py",
        NOTHING,
        ("mlserver",),
        ready="/v2/health/ready",
        path="/v2/models/price/infer",
        body=b'{"inputs": [{"name": "rooms", "shape": [1], "datatype": "FP64", "data": [3]}]}',
    ),
    Host("Ray Serve", "ray_app.py", "`ray.logged`", ("ray",), ready="/-/healthz"),
]
