"""A search service: send it the bytes of a picture, and it answers with the gallery's images most like it, as JSON.

``python tests/examples/search_service.py MODEL GALLERY 8000``, then
``curl --data-binary @picture.jpg http://localhost:8000/?topk=5``.
"""

import io
import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qs, urlsplit

from PIL import Image, UnidentifiedImageError

from hhcl_torchreid import FeatureExtractor
from hhcl_torchreid.features.folder import features_of_folder

LARGEST_PICTURE = 20_000_000  # bytes


def make_server(weights, gallery, port, device=None):
    """Gives a server that knows the folder's features; they are kept beside it for the next start."""
    extractor = FeatureExtractor(model_path=weights, device=device, verbose=False)
    found = features_of_folder(gallery, extractor)
    one_at_a_time = Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers.get("Content-Length", 0))
            if not 0 < size <= LARGEST_PICTURE:
                return self.answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"send 1 to {LARGEST_PICTURE} bytes"})
            topk = int(parse_qs(urlsplit(self.path).query).get("topk", ["10"])[0])
            try:
                picture = Image.open(io.BytesIO(self.rfile.read(size))).convert("RGB")
            except (UnidentifiedImageError, OSError):
                return self.answer(HTTPStatus.BAD_REQUEST, {"error": "these bytes are no picture"})
            with one_at_a_time:
                similarities = extractor(picture) @ found.features.T
            values, numbers = similarities[0].topk(min(topk, len(found.paths)))
            self.answer(
                HTTPStatus.OK,
                [
                    {"path": str(found.paths[number]), "similarity": round(value, 4)}
                    for number, value in zip(numbers.tolist(), values.tolist(), strict=True)
                ],
            )

        def answer(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    make_server(sys.argv[1], sys.argv[2], int(sys.argv[3])).serve_forever()
