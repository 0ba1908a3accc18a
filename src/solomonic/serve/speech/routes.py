"""All routes of speech, for `serve.app`."""

from fastapi import APIRouter

from solomonic.serve.speech import lattices, transcriptions, users
from solomonic.serve.speech.stream import serve_stream
from solomonic.serve.speech.vosk import serve_vosk

router = APIRouter()
router.include_router(transcriptions.router)
router.include_router(lattices.router)
router.include_router(users.router)
router.add_api_websocket_route("/v1/stream", serve_stream)
router.add_api_websocket_route("/vosk", serve_vosk)
router.add_api_websocket_route("/", serve_vosk)  # where clients of vosk-server knock
