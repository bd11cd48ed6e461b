"""Whether Weights & Biases can be reached, and as whom: asked before the first run.

No message names a host or a key: it may come into a report.
"""

import base64
import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit

Mode = Literal["offline", "online"]
# auto: online where a login is known, else offline; sync: online or not at all
Asked = Literal["auto", "online", "offline", "sync"]

ANSWER_TIMEOUT = 3.0  # seconds that the server has to answer
LOGIN = "run `wandb login`"
NO_LOGIN = f"no W&B login is known; {LOGIN}"


@dataclass(frozen=True, slots=True)
class Server:
    """A W&B server and the key for it. Neither is ever shown."""

    url: str
    key: str

    def obstacle(self) -> str:
        """Ask the server who we are: why it cannot be used, "" if it can."""
        token = base64.b64encode(f"api:{self.key}".encode()).decode()
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/graphql",
            data=json.dumps({"query": "query Viewer { viewer { id } }"}).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT) as response:
                viewer = json.load(response)["data"]["viewer"]
        except HTTPError as error:
            refused = error.code in (401, 403)
            return f"refuses the login; {LOGIN}" if refused else f"answers {error.code}"
        except TimeoutError:
            return f"did not answer in {ANSWER_TIMEOUT:.0f} s"
        except OSError:  # what it says may name the host
            return "cannot be reached"
        except (ValueError, LookupError, TypeError):
            return "does not answer as it should"
        return "" if viewer else f"refuses the login; {LOGIN}"

    def hidden(self, text: str) -> str:
        """The text without the server's address and the key."""
        address = urlsplit(self.url)
        for secret in (self.key, self.url.rstrip("/"), address.netloc, address.hostname):
            text = text.replace(secret, "...") if secret else text
        return text


def find_server(wandb: Any) -> tuple[Server | None, str]:
    """The server that the environment, .netrc or wandb's settings name, if it can be used; else
    why not.

    Asks no person. Seen to before the first run: one that fails to go online blocks for 15 s, and
    cannot go offline in the same process.
    """
    from wandb.errors import Error
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    try:
        url = wandb_setup.singleton().settings.base_url
        login = wbauth.authenticate_session(
            host=url, source="r2search", prompt=False, update_session=False
        )
    except (Error, ValueError):  # what it says may hold the key or name the host
        return None, "the W&B login or address is not valid; see WANDB_API_KEY and WANDB_BASE_URL"
    key = getattr(login, "api_key", None)
    if key is None:
        return None, NO_LOGIN
    server = Server(url, key)
    obstacle = server.obstacle()
    return (None, f"the W&B server {obstacle}") if obstacle else (server, "")


def import_wandb(folder: Path) -> Any:
    """wandb, told to keep its files in the folder `wandb` of `folder`, and to tell nobody more.

    What the environment says of a mode, a run or a sweep is not for our runs.
    """
    for name in ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_RUN_GROUP", "WANDB_RESUME"):
        os.environ.pop(name, None)
    os.environ["WANDB_DIR"] = str(folder)  # all make their own folder `wandb` there
    os.environ["WANDB_CACHE_DIR"] = str(folder)
    os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ["WANDB_SILENT"] = "true"
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    import wandb

    return wandb
