"""The application: one process that answers for the models it was given.

    app = create_app(ServeConfig(), asr=None, lm=load_lm(), store=open_store(None))

What a request passes on its way in, from the outside: its line in the log (`logs.Watch`), headers
and origins (`Guard`), with a body who sends it (`auth.Door`) and how much (`limits.BodyLimit`), the
route, and there the client (`auth.require_client`).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from solomonic import __version__
from solomonic.serve import errors, operations
from solomonic.serve.auth import Door, Keys
from solomonic.serve.config import ServeConfig
from solomonic.serve.guard import Guard
from solomonic.serve.keys import KeyFile, KeySource
from solomonic.serve.limits import BodyLimit, Limits
from solomonic.serve.lm.routes import router as lm_router
from solomonic.serve.lm.routes import startup as start_lm
from solomonic.serve.logs import Watch
from solomonic.serve.metrics import Metrics
from solomonic.serve.openapi import install as install_openapi
from solomonic.serve.services import Services
from solomonic.serve.speech.routes import router as speech_router
from solomonic.serve.speech.start import startup as start_speech
from solomonic.serve.web.routes import router as web_router

if TYPE_CHECKING:
    from solomonic.serve.lm.loaded import LoadedModel
    from solomonic.serve.store.base import Store
    from solomonic.speech.native_recognizer import NativeRecognizer


def create_app(
    config: ServeConfig,
    *,
    asr: "NativeRecognizer | None" = None,
    lm: "LoadedModel | None" = None,
    store: "Store",
    reranker: Any = None,
) -> FastAPI:
    """The application; its engines run from start-up to shutdown (`app.state.services`).

    Raises:
        CheckpointError: the key file is damaged.
        StorageError: the key file or the store cannot be read.
    """
    source: KeySource = KeyFile(config.api_key_file) if config.api_key_file else store
    required = bool(config.api_key_file) or bool(source.keys())
    metrics = Metrics()
    services = Services(
        config=config,
        asr=asr,
        lm=lm,
        store=store,
        reranker=reranker,
        metrics=metrics,
        limits=Limits(config),
        keys=Keys(source, required),
    )
    app = FastAPI(
        title="solomonic",
        version=__version__,
        description="Language models and speech recognition: see PROTOCOL.md and docs/serve.md.",
        lifespan=_lifespan,
        docs_url=None,  # both load scripts from other servers
        redoc_url=None,
    )
    app.state.services = services
    errors.install(app)
    app.add_middleware(BodyLimit, config=config)
    app.add_middleware(Door)
    app.add_middleware(Guard, config=config)
    app.add_middleware(Watch, metrics=metrics)  # the last one added is the outermost
    _include_routes(app)
    install_openapi(app, services)
    return app


def _include_routes(app: FastAPI) -> None:
    """Every part's routes. A part that must do something at the start has `startup(services)`."""
    app.include_router(operations.router)
    app.include_router(lm_router)
    app.include_router(speech_router)
    app.include_router(web_router)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the engines; at the end drain whoever still works, and close them."""
    from solomonic.serve.shutdown import drain

    services: Services = app.state.services
    services.draining = asyncio.Event()
    for startup in _STARTUPS:
        await startup(services)
    services.started = True
    services.metrics.ready.set(1)
    try:
        yield
    finally:
        services.metrics.ready.set(0)
        await drain(services)
        for close in reversed(services.closers):
            await close()


_STARTUPS: list[Any] = [start_lm, start_speech]
"""`async def startup(services)` of the parts: makes an engine, registers its drain and closer."""
