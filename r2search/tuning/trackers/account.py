"""Whether Weights & Biases can be reached, and as whom: asked before the first run.

No message names a host or a key: it may come into a report.
"""

import base64
import json
import os
import re
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
PROJECT = "r2search"  # unless WANDB_PROJECT names another
LONGEST_PROJECT = 128  # characters
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
        return hide(text, self.url, self.key)


def hide(text: str, url: str, key: str = "") -> str:
    """The text without an address, its parts, and a key."""
    address = urlsplit(url)
    for secret in (key, url.rstrip("/"), address.netloc, address.hostname):
        text = text.replace(secret, "...") if secret else text
    return text


@dataclass(frozen=True, slots=True)
class Session:
    """wandb as it is to be used for one study."""

    wandb: Any
    folder: Path  # has the SDK's files, in its folder `wandb`
    project: str
    server: Server | None  # None: offline

    @property
    def online(self) -> bool:
        return self.server is not None


def open_session(asked: Asked, run_dir: Path, scratch: Path) -> tuple[Session, str]:
    """How the study in `run_dir` is shown, and why that is not as it was asked for, "" if it is.

    The SDK's files lie in `scratch`, but in the run folder where they are all that there will be.
    """
    project, wrong = chosen_project()
    wandb, server, why = import_wandb(scratch), None, wrong
    if asked != "offline" and not wrong:
        server, why = find_server(wandb)
    if (asked, why) == ("auto", NO_LOGIN):
        why = ""
    if server is None and asked != "sync":
        return Session(import_wandb(run_dir), run_dir, project, None), why
    return Session(wandb, scratch, project, server), why


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


def chosen_project() -> tuple[str, str]:
    """The project of WANDB_PROJECT, and what is wrong with its name ("" when nothing is).

    It is taken out of the environment: wandb itself refuses to begin with a bad one.
    """
    name = os.environ.pop("WANDB_PROJECT", "") or PROJECT
    if re.search(r"[/\\#?%:]", name) or len(name) > LONGEST_PROJECT:
        wrong = f"WANDB_PROJECT: W&B has no project {name[:LONGEST_PROJECT]!r}"
        return PROJECT, f"{wrong}; leave out / \\ # ? % : and keep to {LONGEST_PROJECT} characters"
    return name, ""


def import_wandb(folder: Path) -> Any:
    """wandb, told to keep its files in the folder `wandb` of `folder`, and to tell nobody more.

    What the environment says of a mode, a run or a sweep is not for our runs.
    """
    for name in ("MODE", "RUN_ID", "SWEEP_ID", "RUN_GROUP", "RESUME", "SERVICE"):
        os.environ.pop(f"WANDB_{name}", None)
    os.environ["WANDB_DIR"] = str(folder)  # all make their own folder `wandb` there
    os.environ["WANDB_CACHE_DIR"] = str(folder)
    os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ["WANDB_SILENT"] = "true"
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    import wandb

    return wandb
